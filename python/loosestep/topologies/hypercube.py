"""The hypercube."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from loosestep.topologies.base import Topology


@dataclass(frozen=True, repr=False)
class Hypercube(Topology):
    """Each of 2^k workers mixes with the k whose rank differs in one bit, 1/(k + 1) each.

    Degree k = log2 n, spectral gap 2/(k + 1): the eigenvalues of W are 1 - 2 m/(k + 1), m = 0, ..., k.
    """

    symmetric: ClassVar[bool] = True
    sizes: ClassVar[str] = "numbers of workers that are powers of two"

    def serves(self, size: int) -> bool:
        return size.bit_count() == 1

    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        bits = size.bit_length() - 1
        return dict.fromkeys([rank, *(rank ^ 1 << bit for bit in range(bits))], 1 / (bits + 1))

    def spectrum(self, size: int) -> NDArray[np.float64]:
        bits = np.array([rank.bit_count() for rank in range(size)])
        return 1 - 2 * bits / size.bit_length()
