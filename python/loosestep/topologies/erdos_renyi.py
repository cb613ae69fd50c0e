"""The random graph of Erdos and Renyi."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import log
from random import Random
from typing import ClassVar

from loosestep.foundation import checks
from loosestep.topologies.base import Topology, connects, metropolis


@dataclass(frozen=True, repr=False)
class ErdosRenyi(Topology):
    """Each pair of workers is joined with one probability, drawn once; Metropolis weights.

    w_ij = 1 / (1 + max(deg_i, deg_j)). Draws that are not connected are made again, a hundred times at most.

    probability: by default the smaller of 1 and 2 ln(n) / n, where almost all draws are connected.
    seed: of the draw.

    Raises ValueError for a number of workers of which no draw was connected.

    Reference: P. Erdos, A. Renyi, On Random Graphs I, Publicationes Mathematicae 6, 1959 (E. N. Gilbert's form).
    """

    symmetric: ClassVar[bool] = True
    probability: float | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        if self.probability is not None:
            checks.positive("probability", self.probability)
            checks.at_most("probability", self.probability, 1)
        checks.integer("seed", self.seed, 0)

    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        chance = min(1.0, 2 * log(size) / size) if self.probability is None else self.probability
        return metropolis(drawn(chance, size, self.seed), rank)


ATTEMPTS = 100


@lru_cache(64)  # every worker of a process asks for it at every step
def drawn(chance: float, size: int, seed: int) -> tuple[tuple[int, ...], ...]:
    """Return the neighbours of every rank in a connected graph."""
    draw = Random(f"pairs {seed}, {size}, {chance!r}")
    for _ in range(ATTEMPTS):
        found: list[list[int]] = [[] for _ in range(size)]
        for one, other in combinations(range(size), 2):
            if draw.random() < chance:
                found[one].append(other)
                found[other].append(one)
        if connects(found):
            return tuple(map(tuple, found))
    raise ValueError(
        f"probability must be larger for {size} workers, got {chance:g}: none of {ATTEMPTS} draws was connected"
    )
