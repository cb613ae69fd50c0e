"""Hierarchical local SGD: near workers average often, all of them seldom."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from loosestep.foundation import checks
from loosestep.requests import AllReduce, Local
from loosestep.strategies.base import Cost, State, Strategy, cost_of_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class HierarchicalLocalSGD(Strategy):
    """Local steps, and where a level's period divides the step x_i <- the mean over i's group of that level.

    Of several levels the one with the largest period counts. A group is so many workers in rank order, the last
    one may be smaller: with groups of those that share a host, only the last level crosses hosts. Levels (1, k),
    (tau, None) are local SGD of groups that each do mini-batch SGD. The mean is weighted by the samples each
    worker used in the round, which ends at each average.

    levels: (period, workers in a group) of each level, periods and groups each a multiple of those before; the
        group of the last is None: all workers.

    A round sends 2 (k-1)/k d values a worker in 2 (k-1) messages, k being the size of its group at that level.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 100)
    >>> strategy = ls.HierarchicalLocalSGD(((1, 2), (4, None)))
    >>> result = ls.run(strategy, lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(4))
    >>> [round(float(v), 3) for v in result.params]
    [2.5, 2.5, 2.5]

    Reference: T. Lin, S. Stich, K. Patel, M. Jaggi, arXiv:1808.07217, section 5; J. Wang et al., arXiv:2010.12998.
    """

    identity_at_one: ClassVar[bool] = True
    levels: tuple[tuple[int, int | None], ...] = ((2, 2), (8, None))

    def __post_init__(self) -> None:
        if not self.levels or self.levels[-1][1] is not None:
            raise ValueError(f"the group of the last of levels must be None, all workers, got {self.levels!r}")
        periods, groups = zip(*self.levels, strict=True)
        for name, numbers in (("period", periods), ("group", groups[:-1])):
            for number in numbers:
                checks.integer(f"every {name} in levels", number)
            if any(after % before or after == before for before, after in pairwise(numbers)):
                raise ValueError(
                    f"every {name} in levels must be a multiple of the one before, got {self.levels!r}"
                )

    @property
    def period(self) -> int:
        """Return the local steps of a round."""
        return self.levels[0][0]

    def group(self, rank: int, size: int, number: int) -> tuple[int, ...] | None:
        """Return the group in which a worker averages at the end of a round of that number; None: all workers."""
        step = number * self.period
        count = next(group for period, group in reversed(self.levels) if step % period == 0)
        if count is None or count >= size:
            return None
        first = rank - rank % count
        return tuple(range(first, min(first + count, size)))

    def cost(self, n: int, d: int) -> Cost:
        count = self.levels[0][1] or n
        sizes = [min(count, n - first) for first in range(0, n, count)]
        return Cost(sum(2 * (k - 1) for k in sizes) / n * d, sum(2 * (k - 1) * k for k in sizes) / n)

    def largest_cost(self, n: int, d: int) -> Cost:
        return cost_of_mean(n, d)

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(self.period)
        group = self.group(worker.rank, worker.size, worker.round)
        yield AllReduce(worker.params, op="mean", weight=worker.samples, group=group)
