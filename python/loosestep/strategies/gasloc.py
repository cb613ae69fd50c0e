"""GASLoC: accelerated gossip of local drifts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loosestep import ops
from loosestep.foundation import checks
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
class GASLoC(GossipStrategy):
    """An outer optimizer by gossip: y <- x + r D, x <- y - a L y + m (y - y'), D being the drift of local steps.

    L is the graph's Laplacian, (L y)_i = sum_j (y_i - y_j) over neighbours j; y' is the y of the round before, at
    first the start. m = 0 is the form without acceleration. For drifts that depend on the mean alone the mean
    makes the Nesterov steps of `DiLoCo(rate=r, momentum=m)`: on a complete graph with a = 1/n, of workers with
    data alike, it is DiLoCo.

    topology: who meets, a symmetric `Topology`, by default pairs that are drawn in every round; its weights do not
        count.
    period: local steps of a round (H).
    rate: r, the outer learning rate (eta).
    moving_rate: a, the gossip step (alpha); by default 1 / (1 + neighbours), of the worker with most: in pairs,
        and on a complete graph, their mean.
    momentum: m (gamma).

    A round sends d values to each neighbour, one message each.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 800)
    >>> result = ls.run(ls.GASLoC(period=8), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(4))
    >>> bool(abs(result.params - 2.5).max() < 1e-3)
    True

    Reference: P. Cagnasso, E. Belilovsky, E. Oyallon, Unifying Local Communications and Local Updates for LLM
    Pretraining, arXiv:2606.11081 (the rule after a secondary source; defaults are this library's).
    """

    topology: Topology = field(default_factory=RandomMatching)
    period: int = 50
    rate: float = 0.7
    moving_rate: float | None = None
    momentum: float = 0.5

    @classmethod
    def example(cls) -> GASLoC:
        return cls(period=4, momentum=0.3)

    def __post_init__(self) -> None:
        self.check_undirected()
        checks.integer("period", self.period)
        checks.positive("rate", self.rate)
        if self.moving_rate is not None:
            checks.positive("moving_rate", self.moving_rate, zero=True)
        checks.positive("momentum", self.momentum, zero=True)

    def warnings(self, size: int) -> list[str]:
        faults = super().warnings(size) + self.elastic_faults(size, self.moving_rate)
        return faults + outer_cautions(self.period, self.rate, self.momentum)

    def init(self, worker: Worker) -> State:
        state = super().init(worker)
        state.begun, state.moved = worker.copy_of_params(), worker.copy_of_params()  # x and y'
        return state

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(self.period)
        x, fresh = worker.params, worker.scratch("y", like=worker.params)
        ops.lerp(state.begun, x, self.rate)  # y
        ops.copy(state.begun, fresh)
        ops.copy(fresh, x)
        yield Mix(x, self.topology.laplacian(worker.rank, worker.size, worker.round - 1, self.moving_rate))
        ops.axpy(x, fresh, self.momentum)
        ops.axpy(x, state.moved, -self.momentum)
        ops.copy(fresh, state.moved)
        ops.copy(x, state.begun)
