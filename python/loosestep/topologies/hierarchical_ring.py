"""Groups that average, on a ring of groups."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi
from typing import ClassVar

from loosestep.foundation import checks
from loosestep.topologies.base import Topology


@dataclass(frozen=True, repr=False)
class HierarchicalRing(Topology):
    """By turns the mean within a group, and a ring between groups, each worker with those of its place in theirs.

    Groups are so many workers in rank order, such as those of a host: every second step then crosses hosts. With
    D groups of k the product of two steps is (ring of D) x (mean of k), with the ring's gap,
    2/3 (1 - cos(2 pi/D)) for D > 3 and 1 below. Degree k - 1, then 2.

    group: workers in a group (k).
    """

    symmetric: ClassVar[bool] = True
    sizes: ClassVar[str] = "multiples of its group"
    group: int = 2

    def __post_init__(self) -> None:
        checks.integer("group", self.group)

    def serves(self, size: int) -> bool:
        return size % self.group == 0

    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        self.check_size(size)
        first = rank - rank % self.group
        if step % 2 == 0:
            return dict.fromkeys(range(first, first + self.group), 1 / self.group)
        around = {(rank + shift) % size for shift in (-self.group, 0, self.group)}
        return dict.fromkeys(around, 1 / len(around))

    def period(self, size: int) -> int:
        return 2

    def gap(self, size: int) -> float:
        count = size // self.group
        return 2 / 3 * (1 - cos(2 * pi / count)) if count > 3 else 1.0
