"""The rows of a factorization as the native core wants them: padded, aligned, float32 or bfloat16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loosestep import _core, buffers
from loosestep.sparse.ratings import Floats

LINE = 16
"""Elements that a row's length is a multiple of."""


@dataclass
class Table:
    """Users' or items' rows: factors, biases, AdaGrad's sums. All are moved in place."""

    rows: NDArray[Any]
    """(n, length): float32, or the high halves of float32 as uint16."""
    rank: int
    bias: Floats | None
    squares: Floats | None

    @classmethod
    def drawn(
        cls,
        n: int,
        rank: int,
        random: np.random.Generator,
        *,
        bias: bool,
        adagrad: bool,
        half: bool,
        center: float,
        scale: float,
    ) -> Table:
        """Factors from N(center, scale^2)."""
        rows = aligned(n, -(-rank // LINE) * LINE, np.dtype(np.uint16 if half else np.float32))
        drawn = random.standard_normal((n, rank), np.float32) * np.float32(scale) + np.float32(center)
        rows[:, :rank] = halves(drawn) if half else drawn
        return cls(
            rows, rank, np.zeros(n, np.float32) if bias else None, np.ones(n, np.float32) if adagrad else None
        )

    def factors(self) -> Floats:
        """As float32, (n, rank): a view where they are float32."""
        whole = self.rows if self.rows.dtype == np.float32 else widened(self.rows)
        return whole[:, : self.rank]

    def native(self, l2: float, l2_of: Floats | None) -> _core.FactorRows:
        return _core.FactorRows(self.rows, self.bias, self.squares, l2_of, l2)

    def score(self, others: Table, mine: NDArray[Any], theirs: NDArray[Any], block: int = 1 << 16) -> Floats:
        """b_u + b_i + p_u.q_i for rows `mine` of this table and `theirs` of the other."""
        out = np.empty(len(mine), np.float32)
        for first in range(0, len(mine), block):
            u, i = mine[first : first + block], theirs[first : first + block]
            out[first : first + block] = np.einsum("nk,nk->n", self.picked(u), others.picked(i))
        for table, index in ((self, mine), (others, theirs)):
            out += 0 if table.bias is None else table.bias[index]
        return out

    def picked(self, index: NDArray[Any]) -> Floats:
        rows: NDArray[Any] = self.rows[index]
        return rows if rows.dtype == np.float32 else widened(rows)


def halves(x: Floats) -> NDArray[np.uint16]:
    """The nearest bfloat16 (ties up in size)."""
    bits: NDArray[np.uint32] = x.view(np.uint32) + np.uint32(0x8000)
    high: NDArray[np.uint16] = (bits >> np.uint32(16)).astype(np.uint16)
    return high


def widened(x: NDArray[np.uint16]) -> Floats:
    bits: NDArray[np.uint32] = x.astype(np.uint32) << np.uint32(16)
    return bits.view(np.float32)


def aligned(n: int, length: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A table of zeros, its memory 64-byte aligned."""
    size = n * length * dtype.itemsize
    return buffers.zeros(size // 4).view(dtype).reshape(n, length)
