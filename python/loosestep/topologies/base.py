"""What a topology is: a rule that gives every worker its row of a mixing matrix."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from loosestep.foundation import checks
from loosestep.foundation.value import Value
from loosestep.requests import Weights


class Topology(Value):
    """Base of every topology: `row(rank, size, step)` gives the weights with which a worker averages.

    Mixing matrices are doubly stochastic (rows and columns sum to 1) unless a topology says otherwise.
    """

    @classmethod
    def example(cls) -> Topology:
        """An instance for contract tests."""
        return cls()

    @abstractmethod
    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        """Row `rank` of W: {rank of a neighbour or own: weight}."""

    def readers(self, rank: int, size: int, step: int) -> tuple[int, ...]:
        """Other ranks whose rows hold this one; for symmetric graphs, its own neighbours."""
        return tuple(sorted(other for other in self.row(rank, size, step) if other != rank))

    def weights(self, rank: int, size: int, step: int = 0) -> Weights:
        """The row in rank order (the order in which it is summed), and who reads this worker."""
        row = tuple(sorted(self.row(rank, size, step).items()))
        return Weights(row, self.readers(rank, size, step))

    def matrix(self, size: int, step: int = 0) -> NDArray[np.float64]:
        """The whole mixing matrix W, float64, size x size."""
        checks.integer("size", size)
        mixing = np.zeros((size, size))
        for rank in range(size):
            for other, weight in self.row(rank, size, step).items():
                mixing[rank, other] = weight
        return mixing

    def spectral_gap(self, size: int) -> float:
        """1 - |lambda_2(W)|: how fast mixing reaches consensus. 1 for a single worker."""
        moduli = np.sort(np.abs(np.linalg.eigvals(self.matrix(size))))
        return float(1 - moduli[-2]) if size > 1 else 1.0
