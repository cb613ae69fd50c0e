"""The ring."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi

from loosestep.topologies.base import Topology


@dataclass(frozen=True, repr=False)
class Ring(Topology):
    """Each worker mixes with both neighbours, 1/3 each. Degree 2, spectral gap 2/3 (1 - cos(2 pi/n)) for n > 3.

    lambda_min is -1/3 for even n, so CDSGD on an even ring loses a third of its step-size range. Up to three
    workers weigh 1/n each: the complete graph, with spectral gap 1.
    """

    def gap(self, size: int) -> float:
        return 2 / 3 * (1 - cos(2 * pi / size)) if size > 3 else 1.0

    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        around = {(rank - 1) % size, rank, (rank + 1) % size}
        return dict.fromkeys(around, 1 / len(around))
