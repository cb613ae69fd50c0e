"""The static exponential graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loosestep.topologies.base import Topology


@dataclass(frozen=True, repr=False)
class StaticExponential(Topology):
    """Each worker reads those 1, 2, 4, ... places behind, and itself: K = ceil(log2 n) others, 1/(K + 1) each.

    Directed, degree K, and few steps bring all together: spectral gap 2/(K + 1) for even n. W is circulant:
    lambda_m = (1 + sum_k exp(2 pi i m 2^k / n)) / (K + 1), m = 0, ..., n - 1.

    Reference: B. Ying, K. Yuan et al., Exponential Graph is Provably Efficient for Decentralized Deep Training,
    arXiv:2110.13363.
    """

    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        others = [(rank - reach) % size for reach in reaches(size)]
        return dict.fromkeys([rank, *others], 1 / (len(others) + 1))

    def readers(self, rank: int, size: int, step: int) -> tuple[int, ...]:
        return tuple(sorted((rank + reach) % size for reach in reaches(size)))

    def spectrum(self, size: int) -> NDArray[np.complex128]:
        turns = np.outer(np.arange(size), [0, *reaches(size)]) / size
        return np.array(np.exp(2j * np.pi * turns).mean(axis=1))


def reaches(size: int) -> list[int]:
    """Return how many places away the others are."""
    return [1 << bit for bit in range((size - 1).bit_length())]
