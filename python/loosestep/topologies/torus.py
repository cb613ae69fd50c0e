"""A grid whose edges meet."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

from loosestep.topologies.base import Topology


@dataclass(frozen=True, repr=False)
class Torus(Topology):
    """Four neighbours and oneself, 1/5 each, on the most nearly square grid of n.

    Spectral gap 2/5 (1 - cos(2 pi/c)) for c >= 3 columns, the longer side: O(1/n) where n is nearly a square.

    Neighbours that coincide (a side of 1 or 2) add their weights, so W stays doubly stochastic; a prime n is
    a ring with weights 3/5 for oneself (its two vertical neighbours) and 1/5 for each side.
    """

    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        rows = next(side for side in range(isqrt(size), 0, -1) if size % side == 0)
        columns = size // rows
        y, x = divmod(rank, columns)
        around = [(y, x), (y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        row: dict[int, float] = {}
        for down, right in around:
            other = down % rows * columns + right % columns
            row[other] = row.get(other, 0) + 1
        return {other: count / 5 for other, count in row.items()}
