"""The base of every topology: a rule that gives each worker its row of a mixing matrix."""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from loosestep.foundation import checks
from loosestep.foundation.value import Value
from loosestep.requests import Weights

if TYPE_CHECKING:
    from collections.abc import Sequence

Spectrum: TypeAlias = "NDArray[np.float64] | NDArray[np.complex128]"
Sums: TypeAlias = Literal["doubly", "row", "column"]

DRAWN = 64
"""Steps over which a graph that is drawn anew at every step is looked at."""

LARGEST = 512
"""Workers of whom matrices are made to check them; of more, closed forms alone are known."""

EXACT = 1e-9
"""What a sum of weights may differ from 1, and an eigenvalue from a bound."""


class Topology(Value):
    """Base of every topology: `row(rank, size, step)` gives the weights with which a worker averages.

    A subclass is a frozen dataclass with defaults. `row` is all that it must have; a graph that is directed or
    changes from step to step gives `readers` and `period` as well.

    stochastic: which sums of the mixing matrices are 1: 'doubly' both, 'row' those of what a worker reads, so that
        mixing averages, 'column' those of what a worker gives, so that mixing conserves the sum (push-sum).
    symmetric: every matrix is its own transpose: whoever reads is read, with the same weight.
    sizes: the numbers of workers that it serves, in words; `serves` says which.
    """

    stochastic: ClassVar[Sums] = "doubly"
    symmetric: ClassVar[bool] = False
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

    def period(self, size: int) -> int | None:
        """Return after how many steps the matrices repeat: 1 for a graph that stays as it is.

        None for one that is drawn anew at every step, by the number of the step.
        """
        return 1

    def spectrum(self, size: int) -> Spectrum | None:
        """Return all eigenvalues of a W that stays as it is, in any order; None where no formula says them."""
        return None

    def gap(self, size: int) -> float | None:
        """Return the spectral gap in closed form, or None where no formula says it: see `spectral_gap`."""
        known = self.spectrum(size)
        return None if known is None else 1 - _second(np.abs(known))

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

    def laplacian(self, rank: int, size: int, step: int, rate: float | None = None) -> Weights:
        """Return row `rank` of I - rate L, L being the graph's Laplacian: x_i <- x_i - rate sum_j (x_i - x_j).

        j runs over the neighbours of an undirected graph, whose weights do not count. The rate is by default 1 /
        (1 + neighbours), of the worker with most neighbours.
        """
        others = self.readers(rank, size, step)
        rate = 1 / (1 + self.most_neighbours(size, step)) if rate is None else rate
        row = dict.fromkeys(others, rate) | {rank: 1 - rate * len(others)}
        return Weights(tuple(sorted(row.items())), others)

    def share_weighted(self, size: int, shares: tuple[float, ...]) -> list[list[float]]:
        """Return the rows of a P on this undirected graph that conserves sum_i shares_i x_i.

        P^T = I - 2 / (l_1 + l_(n-1)) L diag(shares)^-1, L being the Laplacian, l the eigenvalues of L
        diag(shares)^-1 in decreasing order. Rows sum to 1; entries may be negative.
        """
        return _share_weighted(self, size, shares)

    def most_neighbours(self, size: int, step: int) -> int:
        """Return the largest number of workers that read one."""
        return _most(self, size, step)

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

        For a graph that stays as it is that is the gap of W. 1 for a single worker. Of a graph that is drawn anew
        at every step: 1 - lambda_2 of the mean of W^T W over 64 steps, by which the squared distance from the
        consensus shrinks in a step, in expectation.
        """
        period = self.period(size)
        product = np.eye(size)
        if period is None:
            drawn = [self.matrix(size, step) for step in range(DRAWN)]
            product = np.mean([mixing.T @ mixing for mixing in drawn], axis=0)
        for step in range(period or 0):
            product = self.matrix(size, step) @ product
        return 1 - _second(np.abs(np.linalg.eigvals(product)))

    def smallest_eigenvalue(self, size: int) -> float:
        """Return the smallest real part of an eigenvalue of W, over the steps of a period (64 if drawn anew)."""
        known = self.spectrum(size)
        if known is not None:
            return float(known.real.min())
        steps = range(self.period(size) or DRAWN)
        eigenvalues = np.linalg.eigvalsh if self.symmetric else np.linalg.eigvals
        return float(min(eigenvalues(self.matrix(size, step)).real.min() for step in steps))

    def elastic_limit(self, size: int) -> float:
        """Return 2 / lambda_max of the first graph's Laplacian L: I - rate L contracts for rates below it."""
        largest = float(np.linalg.eigvalsh(_laplacian(self, size))[-1])
        return (2 - EXACT) / largest if largest > 0 else float("inf")

    def degree(self, size: int, step: int | None = None) -> float:
        """Return to how many others a worker sends, the mean over workers: in that step, or over a period."""
        steps = range(self.period(size) or DRAWN) if step is None else [step]
        sent = [len(self.readers(rank, size, each)) for each in steps for rank in range(size)]
        return sum(sent) / (size * len(steps))

    def is_connected(self, size: int) -> bool:
        """Return whether every worker hears of every other, by the graphs of a period together."""
        steps = range(self.period(size) or DRAWN)
        forward = [set[int]().union(*(self.readers(rank, size, step) for step in steps)) for rank in range(size)]
        backward: list[set[int]] = [set() for _ in range(size)]
        for rank, others in enumerate(forward):
            for other in others:
                backward[other].add(rank)
        return _reached(forward) == _reached(backward) == size

    def faults(self, size: int) -> list[str]:
        """Return what is wrong with a graph of so many workers, a sentence each, with the numbers.

        Sums of weights that are not what `stochastic` says, matrices that are not symmetric though they are said
        to be, workers that never hear of others. Of more than 512 workers nothing is looked at.
        """
        if size > LARGEST or not self.serves(size):
            return []
        steps = range(min(self.period(size) or DRAWN, DRAWN))
        matrices = np.array([self.matrix(size, step) for step in steps])
        found = [
            f"{name}s of {self!r} must sum to 1, and one sums to {_farthest(matrices.sum(axis=axis)):.9g}"
            for name, axis in (("row", 2), ("column", 1))
            if self.stochastic in ("doubly", name) and abs(_farthest(matrices.sum(axis=axis)) - 1) > EXACT
        ]
        apart = float(np.abs(matrices - matrices.transpose(0, 2, 1)).max())
        if self.symmetric and apart > EXACT:
            found.append(f"{self!r} must be symmetric, and weights differ by {apart:.3g} from those back")
        if not self.is_connected(size):
            found.append(f"{self!r} of {size} workers is not connected: they do not come to one consensus")
        return found


@lru_cache(1024)  # every worker of a process asks for it
def _most(topology: Topology, size: int, step: int) -> int:
    return max(len(topology.readers(rank, size, step)) for rank in range(size))


@lru_cache(64)  # every worker of a process asks for it
def _share_weighted(topology: Topology, size: int, shares: tuple[float, ...]) -> list[list[float]]:
    laplacian, root = _laplacian(topology, size), np.sqrt(shares)
    if size == 1:
        return [[1.0]]
    spectrum = np.linalg.eigvalsh(laplacian / root / root[:, None])
    mixing = np.eye(size) - 2 / (spectrum[-1] + spectrum[1]) * laplacian / np.array(shares)
    rows: list[list[float]] = mixing.T.tolist()
    return rows


def _laplacian(topology: Topology, size: int) -> NDArray[np.float64]:
    """Return the Laplacian of the first graph."""
    found = np.zeros((size, size))
    for rank in range(size):
        for other, weight in topology.laplacian(rank, size, 0, 1.0).row:
            found[rank, other] = (rank == other) - weight
    return found


def metropolis(neighbours: Sequence[Sequence[int]], rank: int) -> dict[int, float]:
    """Return row `rank` of Metropolis weights: w_ij = 1 / (1 + max(deg_i, deg_j)), the rest for oneself.

    neighbours: of every rank, on an undirected graph; W is symmetric and doubly stochastic whatever the degrees.
    """
    row = {other: 1 / (1 + max(len(neighbours[rank]), len(neighbours[other]))) for other in neighbours[rank]}
    return row | {rank: 1 - sum(row.values())}


def connects(neighbours: Sequence[Sequence[int]]) -> bool:
    """Return whether all ranks can be reached from rank 0."""
    return _reached(neighbours) == len(neighbours)


def _reached(neighbours: Sequence[Sequence[int] | set[int]]) -> int:
    seen, ahead = {0}, [0]
    while ahead:
        new = set(neighbours[ahead.pop()]) - seen
        seen |= new
        ahead += new
    return len(seen)


def _second(moduli: NDArray[np.float64]) -> float:
    return float(np.sort(moduli)[-2]) if moduli.size > 1 else 0.0


def _farthest(sums: NDArray[np.float64]) -> float:
    return float(sums.flat[np.abs(sums - 1).argmax()])
