"""The one-peer exponential graph."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sin

from loosestep.topologies.base import Topology


@dataclass(frozen=True, repr=False)
class OnePeerExponential(Topology):
    """Each worker reads one other, 1/2 each: at step t the one 2^(t mod p) places behind, with p = ceil(log2 n).

    Directed, another graph at every step of a period p, degree 1. If n is a power of two the product of p
    consecutive steps is the exact mean, and the spectral gap of a period is 1. For other n it is
    1 - max_k |sin(pi k 2^p / n)| / (2^p sin(pi k / n)) over k = 1, ..., n - 1.

    Reference: B. Ying, K. Yuan et al., Exponential Graph is Provably Efficient for Decentralized Deep Training,
    arXiv:2110.13363; M. Assran et al., Stochastic Gradient Push, arXiv:1811.10792.
    """

    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        if size == 1:
            return {rank: 1.0}
        return {rank: 0.5, (rank - self.distance(size, step)) % size: 0.5}

    def readers(self, rank: int, size: int, step: int) -> tuple[int, ...]:
        return ((rank + self.distance(size, step)) % size,) if size > 1 else ()

    def period(self, size: int) -> int:
        return max(1, (size - 1).bit_length())

    def distance(self, size: int, step: int) -> int:
        """Return how many places away the other worker is."""
        return int(2 ** (step % self.period(size)))

    def gap(self, size: int) -> float:
        reach = 2 ** self.period(size)
        angles = [pi * k / size for k in range(1, size)]
        return 1 - max((abs(sin(reach * angle)) / (reach * sin(angle)) for angle in angles), default=0.0)
