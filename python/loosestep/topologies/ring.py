"""The ring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from loosestep.topologies.base import Topology


@dataclass(frozen=True, repr=False)
class Ring(Topology):
    """Each worker mixes with both neighbours, 1/3 each. Degree 2, spectral gap 2/3 (1 - cos(2 pi/n)) for n > 3.

    lambda_min is -1/3 for even n, so CDSGD on an even ring loses a third of its step-size range, and D2 does not
    settle: `Lazy(Ring())` has 1/3. Up to three
    workers weigh 1/n each: the complete graph, with spectral gap 1.
    """

    symmetric: ClassVar[bool] = True

    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        around = {(rank - 1) % size, rank, (rank + 1) % size}
        return dict.fromkeys(around, 1 / len(around))

    def spectrum(self, size: int) -> NDArray[np.float64]:
        if size <= 3:
            return np.array([1.0] + [0.0] * (size - 1))
        return np.array((1 + 2 * np.cos(2 * np.pi * np.arange(size) / size)) / 3)
