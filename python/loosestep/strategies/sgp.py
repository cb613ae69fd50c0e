"""Stochastic gradient push."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from loosestep import ops
from loosestep.foundation.buffers import here
from loosestep.requests import AllReduce, Gradient, Mix, Update
from loosestep.strategies.base import State
from loosestep.strategies.gossip import PushSumStrategy
from loosestep.topologies.base import Topology
from loosestep.topologies.one_peer_exponential import OnePeerExponential

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request, Weights
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class SGP(PushSumStrategy):
    """Adapt, then push: x_i <- sum_j p_ij (x_j - eta g_j(z_j)), w_i <- sum_j p_ij w_j, z_i <- x_i / w_i.

    Columns of P sum to 1, so that sum_i x_i and sum_i w_i are conserved; w begins at 1, and z corrects for the
    workers that are read more than others. The gradient is taken at z, and the local optimizer moves x. On a
    doubly stochastic graph w stays 1 and is not sent, and SGP is adapt-then-combine D-PSGD. The consensus is
    mean_i x_i. Mixing weights stay as they are when a worker's data ends; it then adds no gradient. With another
    number of workers all begin at mean_i z_i, which on a doubly stochastic graph is the same.

    topology: which workers read which, a doubly or column-stochastic `Topology`; it may change from step to step.

    A round sends d values to each reader, one message each, and w with them where the graph is not doubly
    stochastic.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> result = ls.run(ls.SGP(), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(4))
    >>> bool(abs(result.params - 2.5).max() < 0.1)
    True

    Reference: M. Assran, N. Loizou, N. Ballas, M. Rabbat, Stochastic Gradient Push for Distributed Deep Learning,
    arXiv:1811.10792, algorithm 1; that the optimizer moves x and not z is as in its release.
    """

    identity_at_one: ClassVar[bool] = True
    topology: Topology = field(default_factory=OnePeerExponential)

    def __post_init__(self) -> None:
        self.check_topology()

    def init(self, worker: Worker) -> State:
        self.topology.check_size(worker.size)
        return State(weight=1.0)

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        weights = self.topology.weights(worker.rank, worker.size, worker.round - 1)
        yield Gradient()
        if self.pushes:
            ops.scale(worker.params, state.weight)
        yield Update()
        if self.pushes:
            yield from self.push(worker, state, weights)
        else:
            yield Mix(worker.params, weights)

    def push(self, worker: Worker, state: State, weights: Weights) -> Iterator[Request]:
        """Mix x and w in one message, and go on from z."""
        x = worker.params
        both = worker.workspace("x and w", x.size + 1)
        ops.copy(x, both[:-1])
        both[-1:].fill(state.weight)
        yield Mix(both, weights)
        state.weight = float(here(both[-1:])[0])
        ops.copy(both[:-1], x)
        ops.scale(x, 1 / state.weight)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Yield the mean of x."""
        ops.copy(worker.params, out)
        if self.pushes:
            ops.scale(out, state.weight)
        yield AllReduce(out, op="mean")
