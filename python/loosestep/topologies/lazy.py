"""Half of a topology, half of oneself."""

from __future__ import annotations

from dataclasses import dataclass, field

from loosestep.foundation import checks
from loosestep.topologies.base import Spectrum, Sums, Topology
from loosestep.topologies.ring import Ring


@dataclass(frozen=True, repr=False)
class Lazy(Topology):
    """Another topology's W made lazy: (I + W) / 2, whose eigenvalues are (1 + lambda) / 2.

    Those of a symmetric W are then at least 0, so D2 settles on any of them, and CTA gossip is stable up to
    eta h = 1 or more. What is read and sent is as in W.

    topology: W.

    >>> import loosestep as ls
    >>> round(ls.Ring().smallest_eigenvalue(8), 3), round(ls.Lazy(ls.Ring()).smallest_eigenvalue(8), 3)
    (-0.333, 0.333)
    """

    topology: Topology = field(default_factory=Ring)

    def __post_init__(self) -> None:
        checks.instance("topology", self.topology, Topology)

    @property
    def stochastic(self) -> Sums:  # type: ignore[override]
        """Return which sums are 1: those that are in W."""
        return self.topology.stochastic

    @property
    def symmetric(self) -> bool:  # type: ignore[override]
        """Return whether W is symmetric."""
        return self.topology.symmetric

    @property
    def sizes(self) -> str:  # type: ignore[override]
        """Return the numbers of workers that W serves."""
        return self.topology.sizes

    def serves(self, size: int) -> bool:
        return self.topology.serves(size)

    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        row = {other: weight / 2 for other, weight in self.topology.row(rank, size, step).items()}
        return row | {rank: 0.5 + row.get(rank, 0.0)}

    def readers(self, rank: int, size: int, step: int) -> tuple[int, ...]:
        return self.topology.readers(rank, size, step)

    def period(self, size: int) -> int | None:
        return self.topology.period(size)

    def spectrum(self, size: int) -> Spectrum | None:
        known = self.topology.spectrum(size)
        return None if known is None else (1 + known) / 2
