"""What only a GPU can show: torch's tensors, streams of the callers', two GPUs. Other files run on both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.cuda.kernels.test_elementwise import LONG, NAMES, NARROWED, WIDENED, scalars
from tests.cuda.kernels.test_rules import drawn

from loosestep import ops
from loosestep.cuda.launch import Stream

pytestmark = pytest.mark.gpu
TORCH_TYPES = ["float32", "float64", "float16", "bfloat16"]


@pytest.fixture
def torch(cupy: Any) -> Any:
    module = pytest.importorskip("torch")
    if not module.cuda.is_available():
        pytest.skip("torch sees no GPU")
    return module


@pytest.mark.parametrize("kind", TORCH_TYPES)
@pytest.mark.parametrize("op", NAMES)
def test_tensors(cupy: Any, torch: Any, op: str, kind: str) -> None:
    narrow = kind in WIDENED
    held = [torch.tensor(x, dtype=getattr(torch, kind), device="cuda") for x in drawn(op, LONG, np.float64)]
    raw = [x.view(torch.int16).cpu().numpy().view(np.uint16) if narrow else x.cpu().numpy() for x in held]
    wanted = [widened(x, kind) if narrow else x for x in raw]
    getattr(ops, op)(*held, *scalars(op))
    getattr(ops, op)(*wanted, *scalars(op))
    for got, want in zip(held, wanted, strict=True):
        bits = got.view(torch.int16).cpu().numpy() if narrow else got.cpu().numpy()
        assert bits.tobytes() == (NARROWED[kind](want) if narrow else want).tobytes()


def widened(bits: NDArray[Any], kind: str) -> NDArray[Any]:
    return WIDENED[kind](bits.view(np.float16) if kind == "float16" else bits)


def test_a_launch_follows_the_callers_stream(cupy: Any) -> None:
    """On a stream of its own: what the stream did before is seen, without a word to the GPU."""
    x, c = cupy.zeros(1 << 24, cupy.float32), cupy.ones(1 << 24, cupy.float32)
    cupy.cuda.Device().synchronize()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        for _ in range(100):
            x += 1
            ops.axpy(x, c, 1.0)
        stream.synchronize()
    assert float(x.min()) == float(x.max()) == 200


def test_tensors_follow_torchs_stream(cupy: Any, torch: Any) -> None:
    x, c = torch.zeros(1 << 24, device="cuda"), torch.ones(1 << 24, device="cuda")
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()) as _:
        for _ in range(100):
            x.add_(1)
            ops.axpy(x, c, 1.0)
        torch.cuda.current_stream().synchronize()
    assert float(x.min()) == float(x.max()) == 200


def test_two_frameworks_in_one_op(cupy: Any, torch: Any) -> None:
    """On the stream of the first buffer's; who mixes them makes it wait for the other."""
    x, c = cupy.zeros(1 << 24, cupy.float32), torch.zeros(1 << 24, device="cuda")
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()), cupy.cuda.Stream(non_blocking=True) as stream:
        for _ in range(100):
            c.add_(1)
            other = Stream(torch.cuda.current_stream().cuda_stream)
            stream.wait_event(cupy.cuda.Stream.from_external(other).record())
            ops.axpy(x, c, 1.0)
            torch.cuda.current_stream().wait_stream(torch.cuda.ExternalStream(stream.ptr))
        stream.synchronize()
    assert float(x.min()) == float(x.max()) == 5050


def test_memory_of_an_op_is_on_its_stream(torch: Any) -> None:
    """A norm's sums come from CuPy's pool, and go back while torch's stream is still busy."""
    x = torch.zeros(1 << 24, device="cuda")
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        for i in range(1, 30):
            x.add_(1)
            assert ops.norm(x) == i * 4096.0


@pytest.mark.parametrize("kind", TORCH_TYPES)
def test_reductions_of_tensors(cupy: Any, torch: Any, kind: str) -> None:
    x = torch.arange(5000, device="cuda").remainder(7).to(getattr(torch, kind))
    wide = x.double().cpu().numpy()
    assert ops.dot(x, x) == ops.dot(wide, wide)
    assert ops.norms(x, [0, 4000, 5000]) == ops.norms(wide, [0, 4000, 5000])
    assert ops.all_finite(x)


def test_two_gpus_keep_apart(cupy: Any) -> None:
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("there is one GPU")
    with cupy.cuda.Device(1):
        x = cupy.ones(1000, cupy.float32)
    ops.scale(x, 2.0)
    with pytest.raises(ValueError, match="c must be on GPU 1 like the first buffer, got one on GPU 0"):
        ops.elastic(x, cupy.ones(1000, cupy.float32), 0.5)
    assert float(x.sum()) == 2000
