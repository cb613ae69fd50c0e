"""For on_a_card.sh: the GPU, its driver, what launches there; one sentence and status 1 where there is none."""

from __future__ import annotations

import sys

from loosestep.cuda import device, nvrtc
from loosestep.cuda.launch import cupy
from loosestep.foundation.errors import CudaError


def described() -> str:
    name, module = device.first(), cupy()
    runtime = module.cuda.runtime
    driver, made_for = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    compiler = nvrtc.compiler((made_for // 1000,)).version
    return f"{name}, driver of CUDA {driver / 1000}, CuPy {module.__version__}, NVRTC {compiler}"


if __name__ == "__main__":
    try:
        print(described())
    except CudaError as failed:
        sys.exit(f"on_a_card: {failed}")
