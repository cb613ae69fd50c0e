"""CoCoD-SGD: computation and communication decoupled."""

from __future__ import annotations

from dataclasses import dataclass

from loosestep.foundation import checks
from loosestep.strategies.base import Cost, cost_of_mean
from loosestep.strategies.delayed import LateAverage


@dataclass(frozen=True, repr=False)
class CoCoDSGD(LateAverage):
    """While s_i, the replicas of a period ago, are averaged, each makes `period` steps; then both count:

    x_i <- mean_j s_j + (x_i - s_i), which leaves the mean of the replicas as it is; then s_i <- x_i.

    The mean is weighted by the samples each worker used in the round. It is DaSGD(merge='correct') with the
    longest delay.

    period: local steps between two averages, and in which one is under way.

    A round sends 2 (n-1)/n d values a worker in 2 (n-1) messages, while it computes.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> result = ls.run(ls.CoCoDSGD(period=4), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 1e-3)
    True

    Reference: S. Shen et al., Faster Distributed Deep Net Training: Computation and Communication Decoupled SGD,
    arXiv:1906.12043, as third-party code has it.
    """

    period: int = 8

    def __post_init__(self) -> None:
        checks.integer("period", self.period)

    @property
    def delay(self) -> int:  # type: ignore[override]
        """Return the period: an average has a whole round to arrive."""
        return self.period

    def cost(self, n: int, d: int) -> Cost:
        return cost_of_mean(n, d)
