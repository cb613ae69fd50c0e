"""Cosine transforms of tiles, as DeMo makes them before it keeps the largest coefficients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from loosestep import _core
from loosestep.foundation import buffers, checks
from loosestep.foundation.value import Value

if TYPE_CHECKING:
    from loosestep.requests import Buffer


@dataclass(frozen=True, repr=False)
class CosineTiles(Value):
    """The orthonormal DCT-II of tiles of side x side adjacent values, in both directions; the last ends in zeros.

    side: 1 to 64.

    >>> import numpy as np
    >>> tiles, made, back = CosineTiles(2), np.zeros(4), np.zeros(3)
    >>> tiles.forward(np.array([1.0, 2.0, 3.0]), made)
    >>> tiles.back(made, back)
    >>> back.round(12).tolist()
    [1.0, 2.0, 3.0]
    """

    side: int = 64

    def __post_init__(self) -> None:
        checks.integer("side", self.side, 1, 64)

    def size(self, count: int) -> int:
        """Return how many coefficients so many values have."""
        tile = self.side**2
        return -(-count // tile) * tile

    def forward(self, x: Buffer, out: Buffer) -> None:
        """Fill `out`, of `size(x.size)` numbers, with the coefficients of x."""
        whole = buffers.zeros(out.size, out.dtype)
        whole[: x.size] = x
        there, back = matrices(self.side, out.dtype.name)
        _core.codecs.transform(whole, there, back, out)

    def back(self, coefficients: Buffer, out: Buffer) -> None:
        """Fill `out` with the values of coefficients."""
        whole = buffers.zeros(coefficients.size, coefficients.dtype)
        there, back = matrices(self.side, coefficients.dtype.name)
        _core.codecs.transform(coefficients, back, there, whole)
        out[:] = whole[: out.size]


@lru_cache(maxsize=8)
def matrices(side: int, dtype: str) -> tuple[Buffer, Buffer]:
    """Return the matrix of the transform, and its transpose, which is its inverse."""
    place = np.arange(side)
    made = np.cos(np.pi / side * np.outer(place, place + 0.5)) * np.sqrt(2 / side)
    made[0] /= np.sqrt(2)
    there = np.ascontiguousarray(made, dtype)
    return there, np.ascontiguousarray(there.T)


def signs(x: Buffer, out: Buffer) -> None:
    """Fill `out` with -1, 0 and 1, the signs of x."""
    np.sign(x, out=out)
