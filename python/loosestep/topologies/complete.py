"""The complete graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from loosestep.topologies.base import Topology


@dataclass(frozen=True, repr=False)
class Complete(Topology):
    """Each worker mixes with all, w_ij = 1/n: one step is the exact mean. Degree n-1, spectral gap 1."""

    symmetric: ClassVar[bool] = True

    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        return dict.fromkeys(range(size), 1 / size)

    def spectrum(self, size: int) -> NDArray[np.float64]:
        return np.array([1.0] + [0.0] * (size - 1))
