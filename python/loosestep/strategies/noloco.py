"""NoLoCo: an outer optimizer over random pairs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loosestep import ops
from loosestep.foundation import buffers, checks
from loosestep.requests import Local, Mix
from loosestep.strategies.base import State, outer_cautions
from loosestep.strategies.gossip import GossipStrategy
from loosestep.topologies.base import Topology
from loosestep.topologies.random_matching import RandomMatching

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class NoLoCo(GossipStrategy):
    """DiLoCo over random pairs: m_i <- mu m_i + r (mean(x) - phi_i), phi_i <- phi_i + m_i, by the pair's mean.

    phi_i are worker i's slow weights, with which all its local steps begin (x_i <- phi_i). In the release the
    outer gradient, mean(x - phi), and the pull to the pair's slow weights, mean(phi) - phi_i, have one factor r:
    their sum is the above, so x alone is sent. No worker waits for more than its partner. In one group of all
    workers this is DiLoCo with heavy-ball momentum, `BMUF`. The practice of 2026 is AdamW inside, 30 to 100 local
    steps.

    topology: who meets, a doubly stochastic `Topology`, by default pairs that are drawn in every round.
    period: local steps of a round (H).
    rate: r, the outer learning rate.
    momentum: mu, the outer momentum; the release's configurations have 0.5, its default is 0.9.

    A round sends d values to each reader, one message each.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 800)
    >>> result = ls.run(ls.NoLoCo(period=8), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(4))
    >>> bool(abs(result.params - 2.5).max() < 1e-3)
    True

    Reference: J. Kolehmainen et al., NoLoCo: No-all-reduce Low Communication Training Method for Large Models,
    arXiv:2506.10911; the rule as in its release, github.com/jkolehm/noloco.
    """

    topology: Topology = field(default_factory=RandomMatching)
    period: int = 50
    rate: float = 0.7
    momentum: float = 0.5

    @classmethod
    def example(cls) -> NoLoCo:
        return cls(period=4, momentum=0.3)

    def __post_init__(self) -> None:
        self.check_topology()
        checks.integer("period", self.period)
        checks.positive("rate", self.rate)
        checks.positive("momentum", self.momentum, zero=True)

    def warnings(self, size: int) -> list[str]:
        return super().warnings(size) + outer_cautions(self.period, self.rate, self.momentum)

    def init(self, worker: Worker) -> State:
        state = super().init(worker)
        state.slow, state.momentum = worker.copy_of_params(), buffers.like(worker.params)
        return state

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(self.period)
        yield Mix(worker.params, self.weights(worker))
        ops.outer_momentum(worker.params, state.slow, state.momentum, self.rate, self.momentum)
