"""The rows of a factorization as the native core needs them: padded, aligned, float32 or bfloat16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loosestep import _core
from loosestep.foundation import buffers
from loosestep.sparse.ratings import Floats
from loosestep.sparse.validation import narrowed

LINE = 16
"""Elements that a row's length is a multiple of."""


@dataclass
class Table:
    """Users' or items' rows: factors, biases, AdaGrad's sums. All are updated in place."""

    rows: NDArray[Any]
    """(n, length): float32, or uint32 that hold two bfloat16 each, as `words` packs them."""
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
        """Return a table with factors from N(center, scale^2)."""
        line = 2 * LINE if half else LINE
        rows = aligned(n, -(-rank // line) * line, np.dtype(np.float32))
        rows[:, :rank] = random.standard_normal((n, rank), np.float32) * np.float32(scale) + np.float32(center)
        rows = words(rows) if half else rows
        return cls(
            rows, rank, np.zeros(n, np.float32) if bias else None, np.ones(n, np.float32) if adagrad else None
        )

    def factors(self) -> Floats:
        """The factors as float32, (n, rank): a view of float32 rows, else a read-only copy."""
        if self.rows.dtype == np.float32:
            return self.rows[:, : self.rank]
        whole = widened(self.rows)
        whole.flags.writeable = False
        return whole[:, : self.rank]

    def set_factors(self, name: str, value: Any) -> None:
        """Set the factors, (n, rank); `name` is for errors."""
        given = _numbers(name, value, (len(self.rows), self.rank))
        if self.rows.dtype == np.float32:
            self.rows[:, : self.rank] = given
        else:
            whole = widened(self.rows)
            whole[:, : self.rank] = given
            self.rows[...] = words(whole)

    def set_bias(self, name: str, value: Any) -> None:
        """Set the biases; `name` is for errors."""
        if self.bias is None:
            raise ValueError(f"there is no {name} with fit_intercept=False")
        self.bias[...] = _numbers(name, value, self.bias.shape)

    def native(self, l2: float, l2_of: Floats | None) -> _core.FactorRows:
        return _core.FactorRows(self.rows, self.bias, self.squares, l2_of, l2)

    def score(self, others: Table, mine: NDArray[Any], theirs: NDArray[Any], block: int = 1 << 16) -> Floats:
        """Return b_u + b_i + p_u.q_i for rows `mine` of this table and `theirs` of the other."""
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


def _numbers(name: str, value: Any, shape: tuple[int, ...]) -> Floats:
    given = np.asarray(value)
    if given.shape != shape or given.dtype.kind not in "fiu":
        raise ValueError(f"{name} must be numbers for the shape {shape}, got {given.dtype} of {given.shape}")
    return narrowed(name, given)


def words(x: Floats) -> NDArray[np.uint32]:
    """Return rows as bfloat16 (the nearest; ties up in size), two a word:

    of each 32 elements, the i-th and the (16 + i)-th share a word, the first in its low half, so that a vector is
    unpacked by one shift and one mask.
    """
    bits = x.view(np.uint32) + np.uint32(0x8000)
    lines = bits.reshape(len(x), -1, 2, LINE)
    packed: NDArray[np.uint32] = aligned(len(x), x.shape[1] // 2, np.dtype(np.uint32))
    first, second = lines[:, :, 0] >> np.uint32(16), lines[:, :, 1] & np.uint32(0xFFFF0000)
    packed[:] = (first | second).reshape(packed.shape)
    return packed


def widened(packed: NDArray[np.uint32]) -> Floats:
    """Return as float32 what `words` packed."""
    half = packed.reshape(len(packed), -1, LINE)
    lines: NDArray[np.uint32] = np.stack([half << np.uint32(16), half & np.uint32(0xFFFF0000)], 2)
    return lines.reshape(len(packed), -1).view(np.float32)


def aligned(n: int, length: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a table of zeros in memory aligned to 64 bytes."""
    size = n * length * dtype.itemsize
    return buffers.zeros(size // 4).view(dtype).reshape(n, length)
