"""The base of every topology: a rule that gives each worker its row of a mixing matrix."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from loosestep.foundation import checks
from loosestep.foundation.value import Value
from loosestep.requests import Weights


class Topology(Value):
    """Base of every topology: `row(rank, size, step)` gives the weights with which a worker averages.

    A subclass is a frozen dataclass with defaults. `row` is all that it must have; a graph that is directed or
    changes from step to step gives `readers` and `period` as well.

    stochastic: which sums of the mixing matrices are 1: 'doubly' both, 'row' those of what a worker reads, so that
        mixing averages, 'column' those of what a worker gives, so that mixing conserves the sum (push-sum).
    sizes: the numbers of workers that it serves, in words; `serves` says which.
    """

    stochastic: ClassVar[Literal["doubly", "row", "column"]] = "doubly"
    sizes: ClassVar[str] = "any number of workers"

    @classmethod
    def example(cls) -> Topology:
        """Return an instance for contract tests; override where a class has no complete defaults."""
        return cls()

    @abstractmethod
    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        """Return row `rank` of W at a step, 0, 1, ...: {rank of a neighbour or own: weight}."""

    def readers(self, rank: int, size: int, step: int) -> tuple[int, ...]:
        """Return the other ranks whose rows hold this one: on an undirected graph its neighbours, in order."""
        return tuple(sorted(other for other in self.row(rank, size, step) if other != rank))

    def serves(self, size: int) -> bool:
        """Return whether there is such a graph of so many workers; `sizes` says it in words."""
        return True

    def period(self, size: int) -> int:
        """Return after how many steps the matrices repeat: 1 for a graph that stays as it is."""
        return 1

    def gap(self, size: int) -> float | None:
        """Return the spectral gap in closed form, or None where no formula says it: see `spectral_gap`."""
        return None

    # --- the rest follows from these -------------------------------------------------------------------------

    def check_size(self, size: int) -> None:
        """Refuse a number of workers that the graph does not serve."""
        checks.integer("size", size)
        if not self.serves(size):
            raise ValueError(f"{self!r} serves {self.sizes}, got {size}")

    def weights(self, rank: int, size: int, step: int = 0) -> Weights:
        """Return the row in rank order (the order in which it is summed), and the readers."""
        row = tuple(sorted(self.row(rank, size, step).items()))
        return Weights(row, self.readers(rank, size, step))

    def matrix(self, size: int, step: int = 0) -> NDArray[np.float64]:
        """Return the whole mixing matrix W of a step, float64, size x size."""
        self.check_size(size)
        mixing = np.zeros((size, size))
        for rank in range(size):
            for other, weight in self.row(rank, size, step).items():
                mixing[rank, other] = weight
        return mixing

    def spectral_gap(self, size: int) -> float:
        """Return 1 - |lambda_2| of the product of a period's matrices: how near a period brings all to consensus.

        For a graph that stays as it is that is the gap of W. 1 for a single worker.
        """
        product = np.eye(size)
        for step in range(self.period(size)):
            product = self.matrix(size, step) @ product
        moduli = np.sort(np.abs(np.linalg.eigvals(product)))
        return float(1 - moduli[-2]) if size > 1 else 1.0

    def degree(self, size: int) -> float:
        """Return to how many others a worker sends in a step, the mean over workers and a period."""
        period = self.period(size)
        sent = [len(self.readers(rank, size, step)) for step in range(period) for rank in range(size)]
        return sum(sent) / (size * period)
