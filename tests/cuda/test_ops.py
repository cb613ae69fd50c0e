"""`ops` on buffers of a GPU: all that Python does is real, the GPU is the emulation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.cuda.emulated.stub import Array, Gpu
from tests.cuda.kernels.test_elementwise import placed

from loosestep import ops
from loosestep.cuda import arrays, cache, launch, sources
from loosestep.foundation.errors import CudaError

F4 = np.dtype(np.float32)


def drawn(count: int, n: int = 100, dtype: Any = F4) -> list[NDArray[Any]]:
    rng = np.random.default_rng(3)
    return [placed(rng.random(n).astype(dtype), 1) for _ in range(count)]


@pytest.mark.parametrize(("typestr", "kind"), [("<f2", "float16"), ("<V2", "bfloat16"), ("|V2", "bfloat16")])
def test_numbers_of_two_bytes(gpu: Gpu, typestr: str, kind: str) -> None:
    """1, 2, 3 and their halves are exact in both, so scaling by 2 adds one to the exponent."""
    x = np.array([1, 2, 3, 0.5], np.float16).view(np.uint16)
    bits = (
        x if kind == "float16" else (np.array([1, 2, 3, 0.5], np.float32).view(np.uint32) >> 16).astype(np.uint16)
    )
    before = bits.copy()
    ops.scale(Array(bits, typestr=typestr), 2.0)
    np.testing.assert_array_equal(bits - before, 1 << (10 if kind == "float16" else 7))
    assert gpu.launches[0].kernel == f"elementwise<Scale, {kind}>"


def test_a_launch_is_on_the_arrays_gpu_and_the_callers_stream(gpu: Gpu) -> None:
    x, c = drawn(2, 5000)
    ops.elastic(Array(x, 3), Array(c, 3), rate=0.5)
    assert gpu.launches == [("elementwise<Elastic, float>", (5,), (256,), 3, 7)]


def test_nothing_is_launched_for_nothing(gpu: Gpu) -> None:
    ops.scale(Array(np.zeros(0, np.float32)), 2.0)
    assert not gpu.launches


@pytest.fixture
def torch(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Tensors of the CPU pass for a GPU's, but for their place and stream."""
    module = pytest.importorskip("torch")
    monkeypatch.setattr(arrays, "gpu_of", lambda given: 2 if isinstance(given, module.Tensor) else None)
    stream = SimpleNamespace(cuda_stream=40)
    monkeypatch.setattr(module.cuda, "current_stream", lambda device: stream if device == 2 else None)
    return module


def test_a_tensors_launch_is_on_torchs_stream(gpu: Gpu, torch: Any) -> None:
    x = torch.ones(100, requires_grad=True)
    ops.scale(x, 2.0)
    assert gpu.launches[0][3:] == (2, 40)
    assert float(x.detach().sum()) == 200


@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "bfloat16"])
def test_tensors_of_every_type(torch: Any, kind: str) -> None:
    x, c = (torch.rand(5, 20, dtype=torch.float64).to(getattr(torch, kind)) for _ in range(2))
    wanted = (x.double() + 0.5 * (c.double() - x.double())).to(getattr(torch, kind))
    ops.lerp(x, c, 0.5)
    assert (x - wanted).abs().max() <= 2 * torch.finfo(x.dtype).eps
    with pytest.raises(ValueError, match=r"lerp: c must be contiguous, got strides \(.*\) for \(20, 5\)"):
        ops.lerp(x, c.T, 0.5)


def test_a_tensor_of_another_type(torch: Any) -> None:
    with pytest.raises(TypeError, match="scale: x must be float32, float64, float16 or bfloat16, got int64"):
        ops.scale(torch.ones(3, dtype=torch.int64), 2.0)


# --- compiled kernels are kept -------------------------------------------------------------------------------


def test_a_kernel_is_compiled_once_and_kept(gpu: Gpu) -> None:
    (x,) = drawn(1)
    for _ in range(3):
        launch.loaded.cache_clear()  # as in another process
        ops.scale(Array(x), 2.0)
    assert gpu.compiled == ["elementwise<Scale, float> for sm_90"]
    assert cache.state()[0] == 1


def test_other_sources_are_compiled_anew(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    (x,) = drawn(1)
    for digest in ("old", "new", "old"):
        monkeypatch.setattr(sources, "digest", lambda digest=digest: digest)
        launch.loaded.cache_clear()
        ops.scale(Array(x), 2.0)
    assert len(gpu.compiled) == cache.state()[0] == 2


def test_the_digest_is_of_every_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = set()
    (tmp_path / "rules").mkdir()
    monkeypatch.setattr(sources, "folder", lambda: tmp_path)
    for name, text in (("a.cu", "1"), ("rules/b.hpp", "1"), ("rules/b.hpp", "2"), ("c.cu", "2")):
        (tmp_path / name).write_text(text)
        sources.digest.cache_clear()
        found.add(sources.digest())
    sources.digest.cache_clear()
    assert len(found) == 4


def test_a_torn_file_is_never_read(tmp_path: Path) -> None:
    place = cache.written(tmp_path / "key" / "kernel.cubin", b"whole")
    assert [file.name for file in place.parent.iterdir()] == ["kernel.cubin"]
    assert place.read_bytes() == b"whole"


# --- what is refused changes nothing -------------------------------------------------------------------------


def refused(error: type[Exception], text: str, op: str, *given: Any) -> None:
    arrays = [each.held for each in given if isinstance(each, Array)]
    before = [array.copy() for array in arrays]
    with pytest.raises(error) as caught:
        getattr(ops, op)(*given)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    for array, was in zip(arrays, before, strict=True):
        assert array.tobytes() == was.tobytes()


def test_buffers_on_two_gpus(gpu: Gpu) -> None:
    x, c = drawn(2)
    text = "elastic: c must be on GPU 0 like the first buffer, got one on GPU 1"
    refused(ValueError, text, "elastic", Array(x), Array(c, 1), 0.5)


def test_one_buffer_of_the_cpu(gpu: Gpu) -> None:
    x, c = drawn(2)
    refused(TypeError, "elastic: c must be on a GPU, like", "elastic", Array(x), c, 0.5)
    refused(TypeError, "elastic: x must be on a GPU, like", "elastic", x, Array(c), 0.5)
    refused(TypeError, "got a numpy.ndarray", "elastic", Array(x), c, 0.5)


def test_strides_types_lengths(gpu: Gpu) -> None:
    x, c, wide = *drawn(2), np.zeros(100)
    text = "elastic: c must be contiguous, got strides (8,) for (50,)"
    refused(ValueError, text, "elastic", Array(x[:50]), Array(c[::2]), 0.5)
    refused(TypeError, "elastic: c must be float32 like the first buffer, got float64", "elastic", Array(x),
            Array(wide), 0.5)  # fmt: skip
    refused(ValueError, "elastic: c must have 100 elements like the first buffer, got 99", "elastic", Array(x),
            Array(c[:99]), 0.5)  # fmt: skip
    refused(TypeError, "must be float32, float64, float16 or bfloat16, got <i4", "scale",
            Array(x.view(np.int32)), 0.5)  # fmt: skip
    refused(ValueError, "scale: x must be writable", "scale", Array(x, read_only=True), 0.5)


def test_overlap(gpu: Gpu) -> None:
    x = np.zeros(100, np.float32)
    refused(ValueError, "elastic: x and c must not overlap", "elastic", Array(x[:60]), Array(x[40:]), 0.5)
    ops.subtract(Array(x), Array(x.copy()), out=Array(x))
    assert len(gpu.launches) == 1


def test_numbers_are_checked_as_on_the_cpu(gpu: Gpu) -> None:
    x = drawn(4)
    refused(TypeError, "scale: a must be a number, got str", "scale", Array(x[0]), "2")
    refused(ValueError, "adam: step must be at least 1", "adam", *map(Array, x), 0.1, 0.9, 0.99, 1e-8, 0)
    refused(TypeError, "scale: a is missing", "scale", Array(x[0]))


def test_an_op_that_no_gpu_has(gpu: Gpu) -> None:
    x, y = drawn(2)
    with pytest.raises(TypeError, match=r"exact.axpy: its buffers must be numpy arrays"):
        ops.exact.axpy(Array(x), Array(y), 1.0)


def test_a_launch_that_fails(gpu: Gpu) -> None:
    (x,) = drawn(1)
    gpu.refusal = "CUDA_ERROR_OUT_OF_MEMORY: out of memory"
    text = "elementwise<Scale, float> could not be started on GPU 0: CUDA_ERROR_OUT_OF_MEMORY: out of memory"
    refused(CudaError, text, "scale", Array(x), 2.0)


def test_a_kernel_that_does_not_compile(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*given: Any) -> Any:
        raise CudaError("NVRTC 13.0 cannot compile elementwise<Scale, float>: line 3")

    monkeypatch.setattr(cache.nvrtc, "compiler", lambda majors: SimpleNamespace(version="13.0", compiled=refuses))
    refused(CudaError, "NVRTC 13.0 cannot compile", "scale", Array(drawn(1)[0]), 2.0)
    assert cache.state() == (0, 0)


def test_without_cupy(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    refused(CudaError, "need CuPy, which is not here: pip install 'loosestep[cuda13]'", "scale",
            Array(drawn(1)[0]), 2.0)  # fmt: skip


def test_a_tensor_of_the_cpu() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="scale: x must be on a GPU, .*got a tensor on cpu"):
        ops.scale(torch.ones(3), 2.0)


def test_importing_the_package_does_not_import_this_one() -> None:
    code = "import sys, loosestep; print('loosestep.cuda' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
