"""Elastic gossip."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from loosestep.foundation import checks
from loosestep.requests import Local, Mix
from loosestep.strategies.base import State
from loosestep.strategies.gossip import GossipStrategy
from loosestep.topologies.base import Topology
from loosestep.topologies.random_matching import RandomMatching

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class ElasticGossip(GossipStrategy):
    """Elastic averaging without a center: after local steps x_i <- x_i - a sum_j (x_i - x_j), j over neighbours.

    Whoever is pulled pulls as much, so the mean rests. In pairs a = 1/2 is their mean. With a `Nesterov` local
    optimizer this is the paper's form; momenta are never touched.

    topology: who meets, a symmetric `Topology`, by default random pairs; its weights do not count.
    period: local steps between two exchanges (tau).
    moving_rate: a, by default 1 / (1 + neighbours), of the worker with most. From 2 / lambda_max of the graph's
        Laplacian on, 1 in pairs, workers do not come together.

    A round sends d values to each neighbour, one message each.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> result = ls.run(ls.ElasticGossip(), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(4))
    >>> bool(abs(result.params - 2.5).max() < 1e-3)
    True

    Reference: S. Pramod, Elastic Gossip: Distributing Neural Network Training Using Gossip-like Protocols,
    arXiv:1812.02407 (there each worker picks a partner by itself; that pairs are disjoint is this library's).
    """

    identity_at_one: ClassVar[bool] = True
    topology: Topology = field(default_factory=RandomMatching)
    period: int = 4
    moving_rate: float | None = None

    def __post_init__(self) -> None:
        self.check_undirected()
        checks.integer("period", self.period)
        if self.moving_rate is not None:
            checks.positive("moving_rate", self.moving_rate, zero=True)

    def warnings(self, size: int) -> list[str]:
        return super().warnings(size) + self.elastic_faults(size, self.moving_rate)

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(self.period)
        weights = self.topology.laplacian(worker.rank, worker.size, worker.round - 1, self.moving_rate)
        yield Mix(worker.params, weights)
