"""The complete graph."""

from __future__ import annotations

from dataclasses import dataclass

from loosestep.topologies.base import Topology


@dataclass(frozen=True, repr=False)
class Complete(Topology):
    """Each worker mixes with all, w_ij = 1/n: one step is the exact mean. Degree n-1, spectral gap 1."""

    def gap(self, size: int) -> float:
        return 1.0

    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        return dict.fromkeys(range(size), 1 / size)
