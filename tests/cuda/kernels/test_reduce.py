"""Reductions on a GPU have the bits of `ops.dot` and `ops.norms`: one order of additions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.cuda.emulated.emulation import emulate
from tests.cuda.making import buffers, each_kind, each_order

from loosestep import ops
from loosestep.ops import reductions

BLOCK = reductions.BLOCK
WARPS = 8  # of a thread block that makes sums of products


def blocks_of(n: int) -> int:
    return -(-n // BLOCK)


def folded(sums: np.ndarray, backwards: bool) -> float:
    out = np.full(1, np.nan)
    none = np.uint64(0)
    emulate("reduce").launch(
        "fold_sums", (1,), (1024,), [sums, none, np.uint64(sums.size), out], backwards=backwards
    )
    return float(out[0])


@each_kind
@each_order
@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 4095, 4096, 4097, 40_001])
def test_dot(kind: str, n: int, backwards: bool) -> None:
    (x, y), sums = buffers(2, n, kind), np.full(blocks_of(n), np.nan)
    grid = (max(1, -(-sums.size // WARPS)),)
    emulate("reduce").launch(f"dot<{kind}>", grid, (32 * WARPS,), [x, y, np.uint64(n), sums], backwards=backwards)
    assert folded(sums, backwards) == ops.dot(x, y)


@each_order
def test_many_sums_are_folded_level_by_level(backwards: bool) -> None:
    """So many that a second round of warps writes where the first has read."""
    (sums,) = buffers(1, 34 * BLOCK + 5, "double")
    assert folded(sums.copy(), backwards) == ops.dot(sums, np.ones_like(sums))


@each_kind
@each_order
def test_norms_of_parts(kind: str, backwards: bool) -> None:
    (x,) = buffers(1, 3 * BLOCK, kind)
    starts = np.array([0, 0, 1, 5, 5, 4099, 12_000, 12_288, 12_288], np.uint64)
    blocks = [blocks_of(int(size)) for size in np.diff(starts)]
    first = np.concatenate([[0], np.cumsum(blocks)]).astype(np.uint64)
    sums, out = np.full(first[-1], np.nan), np.full(len(blocks), np.nan)
    parts = np.uint64(len(blocks))
    emulate("reduce").launch(
        f"squares<{kind}>", (1,), (32 * WARPS,), [x, starts, first, parts, sums], backwards=backwards
    )
    emulate("reduce").launch(
        "fold_sums", (len(blocks),), (1024,), [sums, first, np.uint64(0), out], backwards=backwards
    )
    assert [math.sqrt(each) for each in out] == ops.norms(x, starts)
