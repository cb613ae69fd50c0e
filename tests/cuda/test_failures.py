"""What can go wrong on a GPU: one sentence, and nothing half-updated."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.cuda.carriers import Carrier
from tests.cuda.emulated.stub import Array, Gpu
from tests.cuda.kernels.test_hogwild import FEATURES, Problem
from tests.cuda.kernels.test_passes import rows_of

from loosestep import ops
from loosestep.cuda import cache, hogwild
from loosestep.foundation.errors import CudaError

N = 1 << 16
Call = Callable[[Any, Any], object]
NEED_ROOM: dict[str, Call] = {
    "room for 1 float64 failed": lambda x, y: ops.norm(x),
    "a copy of 16 bytes to it failed": lambda x, y: ops.mix([x, y], [[1, 0], [0, 1]]),
    "a copy of 4 bytes to it failed": lambda x, y: ops.all_finite(x),
}


@pytest.mark.parametrize("says", NEED_ROOM)
def test_out_of_memory(carrier: Carrier, says: str) -> None:
    before = np.linspace(-1, 1, N, dtype=np.float32)
    x, y = carrier.put_all([before, before])
    with carrier.full(), pytest.raises(CudaError) as raised:
        NEED_ROOM[says](x, y)
    assert str(raised.value).startswith(says)
    assert "failed on GPU 0: Out of memory allocating" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert carrier.same([x, y], [before, before])


def test_out_of_memory_in_a_pass(carrier: Carrier) -> None:
    w, rows = carrier.put(np.zeros(FEATURES + 1, np.float32)), rows_of(carrier, Problem())
    with (
        carrier.full(),
        pytest.raises(CudaError, match="^a copy of 8 bytes to it failed on GPU 0: Out of memory"),
    ):
        hogwild.linear(w, rows)
    assert (carrier.got(w) == 0).all()


SEVERAL: dict[str, tuple[Call, int]] = {  # and how many launches it is
    "norm": (lambda x, y: ops.norm(x), 2),
    "sgd": (lambda x, y: ops.sgd(x, y, 0.1), 1),
    "elastic_all": (lambda x, y: ops.elastic_all([x], y, 0.1), 1),
    "mix": (lambda x, y: ops.mix([x, y], [[1, 0], [0, 1]]), 1),
    "langevin": (lambda x, y: ops.langevin(x, y, 0.1, 0.1, 1, 2, 3), 1),
}


@pytest.mark.parametrize("op", SEVERAL)
def test_whichever_launch_fails_nothing_is_changed(gpu: Gpu, op: str) -> None:
    call, launches = SEVERAL[op]
    x, y = (np.linspace(-1, 1, 100, dtype=np.float32) for _ in range(2))
    gpu.refusal = "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES: too many resources requested for launch"
    for willing in range(launches):
        gpu.launches, gpu.willing = [], willing
        with pytest.raises(CudaError, match=f"could not be started on GPU 0: {gpu.refusal}$"):
            call(Array(x), Array(y))
        assert len(gpu.launches) == willing
        assert x.tobytes() == y.tobytes() == np.linspace(-1, 1, 100, dtype=np.float32).tobytes()
    gpu.launches, gpu.willing = [], launches
    call(Array(x), Array(y))


@pytest.mark.parametrize("op", SEVERAL)
def test_a_kernel_that_does_not_compile(gpu: Gpu, monkeypatch: pytest.MonkeyPatch, op: str) -> None:
    def refuses(file: str, kernels: Any, architecture: str) -> Any:
        raise CudaError(f"NVRTC 13.0 cannot compile {kernels[0]} of {file}.cu for {architecture}: line 3")

    monkeypatch.setattr(cache.nvrtc, "compiler", lambda majors: SimpleNamespace(version="13.0", compiled=refuses))
    x, y = np.ones(100, np.float32), np.ones(100, np.float32)
    with pytest.raises(CudaError, match="^NVRTC 13.0 cannot compile .*cu for sm_90: line 3$"):
        SEVERAL[op][0](Array(x), Array(y))
    assert (x == 1).all()
    assert cache.state() == (0, 0)


@pytest.mark.parametrize("op", ["sgd", "elastic_all", "mix", "langevin"])
def test_arrays_on_two_gpus(gpu: Gpu, op: str) -> None:
    x, y = np.ones(100, np.float32), np.ones(100, np.float32)
    with pytest.raises(ValueError, match=r"GPU [01].*got .*on GPU [01]$"):
        SEVERAL[op][0](Array(x), Array(y, 1))
    assert (x == 1).all()
    assert not gpu.launches
