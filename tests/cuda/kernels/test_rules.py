"""Rules on buffers of a GPU: the bits of the CPU at every alignment, small numbers kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.cuda.carriers import Carrier
from tests.cuda.kernels.test_elementwise import MISALIGNED, NAMES, scalars

from loosestep import _core, ops


def drawn(op: str, n: int, dtype: Any) -> list[NDArray[Any]]:
    rng = np.random.default_rng(n)
    return [rng.random(n).astype(dtype) for _ in range(_core.rules.signature(op)[1])]


def compared(carrier: Carrier, op: str, wanted: list[NDArray[Any]], past: tuple[int, ...] = (0,) * 5) -> bool:
    given = [carrier.put(x, by) for x, by in zip(wanted, past, strict=False)]
    getattr(ops, op)(*given, *scalars(op))
    getattr(ops, op)(*wanted, *scalars(op))
    return carrier.same(given, wanted)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", NAMES)
def test_a_rule_gives_the_bits_of_the_cpu(carrier: Carrier, op: str, dtype: str) -> None:
    for n in carrier.lengths:
        assert all(compared(carrier, op, drawn(op, n, dtype), past) for past in MISALIGNED)


@pytest.mark.parametrize("op", NAMES)
def test_small_numbers_are_not_flushed_to_zero(carrier: Carrier, op: str) -> None:
    assert compared(carrier, op, [x * np.float32(1e-40) for x in drawn(op, 1000, np.float32)])


def test_an_op_is_one_launch(carrier: Carrier) -> None:
    compared(carrier, "adam", drawn("adam", 100, np.float32))
    assert len(carrier.launches()) in (0, 1)
