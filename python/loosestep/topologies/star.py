"""The star."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from loosestep.topologies.base import Topology


@dataclass(frozen=True, repr=False)
class Star(Topology):
    """Worker 0 mixes with all others, 1/n each; the others with worker 0 alone. Spectral gap 1/n for n > 2.

    Degree n-1 at the hub and 1 elsewhere: the hub's link carries everything. These are Metropolis weights.
    """

    symmetric: ClassVar[bool] = True

    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        if rank == 0:
            return dict.fromkeys(range(size), 1 / size)
        return {0: 1 / size, rank: 1 - 1 / size}

    def spectrum(self, size: int) -> NDArray[np.float64]:
        return np.array([1.0, 0.0][:size] + [1 - 1 / size] * (size - 2))
