"""A random regular graph."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import ClassVar

from loosestep.foundation import checks
from loosestep.topologies.base import Topology, connects


@dataclass(frozen=True, repr=False)
class RandomRegular(Topology):
    """Each worker mixes with `neighbours` others, drawn once, 1/(neighbours + 1) each.

    Connected, and an expander almost surely: its gap does not shrink with n, as that of a ring or torus does. Of
    up to neighbours + 1 workers each mixes with all. Pairs of places are drawn at random among those that may
    still be joined; a draw that gets stuck, or is not connected, is made again.

    neighbours: how many; an odd number serves even numbers of workers alone, where not all are neighbours.
    seed: of the draw.

    Reference: A. Steger, N. Wormald, Generating Random Regular Graphs Quickly, Combinatorics, Probability and
    Computing 8, 1999.
    """

    symmetric: ClassVar[bool] = True
    neighbours: int = 4
    seed: int = 1

    def __post_init__(self) -> None:
        checks.integer("neighbours", self.neighbours)
        checks.integer("seed", self.seed, 0)

    @property
    def sizes(self) -> str:  # type: ignore[override]
        """Return the numbers of workers that it serves."""
        return (
            f"even numbers of workers and up to {self.neighbours + 1}" if self.neighbours % 2 else Topology.sizes
        )

    def serves(self, size: int) -> bool:
        if self.neighbours == 1:
            return size <= 2  # pairs are not connected
        return size <= self.neighbours + 1 or self.neighbours * size % 2 == 0

    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        self.check_size(size)
        if size <= self.neighbours + 1:
            return dict.fromkeys(range(size), 1 / size)
        return dict.fromkeys((rank, *drawn(self.neighbours, size, self.seed)[rank]), 1 / (self.neighbours + 1))


@lru_cache(64)  # every worker of a process asks for it at every step
def drawn(degree: int, size: int, seed: int) -> tuple[tuple[int, ...], ...]:
    """Return the neighbours of every rank in a connected graph whose ranks have `degree` of them."""
    draw = Random(f"regular {seed}, {size}, {degree}")
    while True:
        found = attempt(degree, size, draw)
        if found is not None and connects(found):
            return tuple(tuple(sorted(others)) for others in found)


def attempt(degree: int, size: int, draw: Random) -> list[list[int]] | None:
    """Return the neighbours of every rank, or None if the places that are left cannot be joined."""
    found: list[list[int]] = [[] for _ in range(size)]
    places = [rank for rank in range(size) for _ in range(degree)]
    while places:
        draw.shuffle(places)
        left = []
        for one, other in zip(places[::2], places[1::2], strict=True):
            if one == other or other in found[one]:
                left += [one, other]
            else:
                found[one].append(other)
                found[other].append(one)
        ranks = sorted(set(left))
        if left and not any(other not in found[one] for one in ranks for other in ranks if one < other):
            return None
        places = left
    return found
