"""On a card: the bits of the CPU, on the caller's stream. `pytest -m gpu`; skipped where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.cuda.test_elementwise import LENGTHS, LONG, MISALIGNED, NAMES, NARROWED, WIDENED, scalars

from loosestep import _core, ops
from loosestep.cuda import card
from loosestep.cuda.failures import CardFailed

pytestmark = pytest.mark.gpu
TORCH_TYPES = ["float32", "float64", "float16", "bfloat16"]


@pytest.fixture(scope="module")
def cupy() -> Any:
    try:
        card.first()
    except CardFailed as failed:
        pytest.skip(str(failed))
    return pytest.importorskip("cupy")


@pytest.fixture(scope="module")
def torch() -> Any:
    module = pytest.importorskip("torch")
    if not module.cuda.is_available():
        pytest.skip("torch sees no card")
    return module


def on_card(cupy: Any, values: NDArray[Any], past: int) -> Any:
    """So many elements past a multiple of 16 bytes: memory of a card begins at one of 256."""
    room = cupy.zeros(values.size + 16, values.dtype)
    room[past : past + values.size] = cupy.asarray(values)
    return room[past : past + values.size]


def drawn(op: str, n: int, dtype: Any) -> list[NDArray[Any]]:
    rng = np.random.default_rng(n)
    return [rng.random(n).astype(dtype) for _ in range(_core.rules.signature(op)[1])]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", NAMES)
def test_a_rule_gives_the_bits_of_the_cpu(cupy: Any, op: str, dtype: str) -> None:
    for n in (*LENGTHS, LONG):
        for past in MISALIGNED:
            wanted = drawn(op, n, dtype)
            buffers = [on_card(cupy, x, by) for x, by in zip(wanted, past, strict=False)]
            getattr(ops, op)(*buffers, *scalars(op))
            getattr(ops, op)(*wanted, *scalars(op))
            assert [cupy.asnumpy(x).tobytes() for x in buffers] == [x.tobytes() for x in wanted]


@pytest.mark.parametrize("op", NAMES)
def test_small_numbers_are_not_flushed_to_zero(cupy: Any, op: str) -> None:
    wanted = [x * np.float32(1e-40) for x in drawn(op, 1000, np.float32)]
    buffers = [cupy.asarray(x) for x in wanted]
    getattr(ops, op)(*buffers, *scalars(op))
    getattr(ops, op)(*wanted, *scalars(op))
    assert [cupy.asnumpy(x).tobytes() for x in buffers] == [x.tobytes() for x in wanted]


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
    """On a stream of its own: what the stream did before is seen, without a word to the card."""
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


def test_two_cards_keep_apart(cupy: Any) -> None:
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("there is one card")
    with cupy.cuda.Device(1):
        x = cupy.ones(1000, cupy.float32)
    ops.scale(x, 2.0)
    with pytest.raises(ValueError, match="c must be on card 1 like the first buffer, got one on card 0"):
        ops.elastic(x, cupy.ones(1000, cupy.float32), 0.5)
    assert float(x.sum()) == 2000
