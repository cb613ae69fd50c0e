"""Random groups, drawn at every step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import ClassVar

from loosestep.foundation import checks
from loosestep.topologies.base import Topology


@dataclass(frozen=True, repr=False)
class RandomMatching(Topology):
    """At every step workers are dealt into random pairs, each of which averages: 1/2 each.

    All workers draw the same pairs, by seed and step alone, so nothing is sent to agree on them. Of an odd number
    one rests. Degree 1. In expectation a step shrinks the squared distance from the consensus by
    lambda_2(E W^T W) = (n - 2) / (2 (n - 1)) for even n and 1/2 for odd n: the gap is 1 less that.

    seed: of the draw.
    group: workers in a group, 1/group each; the last one is smaller where it must be. All workers: the mean.

    Reference: S. Boyd, A. Ghosh, B. Prabhakar, D. Shah, Randomized Gossip Algorithms, IEEE Trans. Inf. Theory
    52(6), 2006, of whose pairs these are n/2 at once.
    """

    symmetric: ClassVar[bool] = True
    seed: int = 1
    group: int = 2

    def __post_init__(self) -> None:
        checks.integer("seed", self.seed, 0)
        checks.integer("group", self.group, 2)

    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        mates = groups(self.seed, self.group, size, step)[rank]
        return dict.fromkeys(mates, 1 / len(mates))

    def period(self, size: int) -> int | None:
        return None if size > self.group else 1

    def gap(self, size: int) -> float | None:
        if size <= self.group:
            return 1.0
        if self.group > 2:
            return None
        return 0.5 if size % 2 else size / (2 * (size - 1))

    def degree(self, size: int, step: int | None = None) -> float:
        last = size % self.group
        return ((size - last) * (self.group - 1) + last * max(0, last - 1)) / size


@lru_cache(1024)  # every worker of a process asks for the groups of a step
def groups(seed: int, count: int, size: int, step: int) -> dict[int, tuple[int, ...]]:
    """Return for every rank the ranks of its group, in order."""
    order = list(range(size))
    Random(f"groups {seed}, {step}").shuffle(order)
    dealt = [tuple(sorted(order[first : first + count])) for first in range(0, size, count)]
    return {rank: group for group in dealt for rank in group}
