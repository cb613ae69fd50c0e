"""The torus: a grid whose opposite edges meet."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from loosestep.topologies.base import Topology


@dataclass(frozen=True, repr=False)
class Torus(Topology):
    """Each worker mixes with its four neighbours, 1/5 each, on the most nearly square grid of n.

    Spectral gap 2/5 (1 - cos(2 pi/c)) for c >= 3 columns, the longer side: O(1/n) where n is nearly a square.
    Two workers have 4/5 (the same formula), and 2 x 2 workers 2/5, for lambda_min = -3/5 there.

    Neighbours that coincide (a side of 1 or 2) add their weights, so W stays doubly stochastic; a prime n is
    a ring with weights 3/5 for oneself (its two vertical neighbours) and 1/5 for each side.
    """

    symmetric: ClassVar[bool] = True

    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        rows, columns = sides(size)
        y, x = divmod(rank, columns)
        around = [(y, x), (y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        row: dict[int, float] = {}
        for down, right in around:
            other = down % rows * columns + right % columns
            row[other] = row.get(other, 0) + 1
        return {other: count / 5 for other, count in row.items()}

    def spectrum(self, size: int) -> NDArray[np.float64]:
        down, right = (2 * np.cos(2 * np.pi * np.arange(side) / side) for side in sides(size))
        return np.array((1 + down[:, None] + right) / 5).reshape(-1)


def sides(size: int) -> tuple[int, int]:
    """Return the rows and columns of the most nearly square grid; there are no more rows than columns."""
    rows = next(side for side in range(isqrt(size), 0, -1) if size % side == 0)
    return rows, size // rows
