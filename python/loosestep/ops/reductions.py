"""From buffers to a number, in one order whatever the instruction set, the threads or the device: numpy bodies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from loosestep.foundation.buffers import Buffer

BLOCK = 4096
"""Elements whose products a reduction sums by themselves."""
LANES = 32
"""Running sums inside a block."""


def dot(x: Buffer, y: Buffer) -> float:
    """The inner product, made and added in double, in one order for all instruction sets and thread counts.

    In a block of 4096 elements, running sum j (of 32) takes elements j, j + 32, ... from left to right; then
    sum j takes sum j + 16, j + 8, ... j + 1. The blocks' sums are added likewise, until one is left.
    """
    sums = _block_sums(np.multiply(x.reshape(-1), y.reshape(-1), dtype=np.float64))
    while sums.size > 1:
        sums = _block_sums(sums)
    return float(sums.sum())


def _block_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    rows = np.zeros((-(-values.size // BLOCK), BLOCK // LANES, LANES))
    rows.reshape(-1)[: values.size] = values
    sums = np.zeros((len(rows), LANES))
    for row in range(BLOCK // LANES):
        sums += rows[:, row]
    while sums.shape[1] > 1:
        half = sums.shape[1] // 2
        sums = sums[:, :half] + sums[:, half:]
    return sums[:, 0]


def norm(x: Buffer) -> float:
    """The Euclidean norm: the root of `dot(x, x)`. Squares that overflow a double give infinity."""
    return math.sqrt(dot(x, x))


def norms(x: Buffer, starts: Sequence[int]) -> list[float]:
    """`norm` of each part x[starts[i] : starts[i + 1]] of a flat buffer."""
    flat = x.reshape(-1)
    return [norm(flat[i:j]) for i, j in pairwise(starts)]


def all_finite(x: Buffer) -> bool:
    """Whether x holds no infinity and no NaN."""
    return bool(np.isfinite(x).all())
