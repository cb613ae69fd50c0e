"""Overlap SGP: stochastic gradient push whose messages travel while workers compute."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loosestep import ops
from loosestep.foundation import buffers, checks
from loosestep.foundation.buffers import here
from loosestep.requests import AllReduce, Mix
from loosestep.strategies.base import State
from loosestep.strategies.delayed import LateStrategy
from loosestep.strategies.gossip import PushSumStrategy
from loosestep.topologies.base import Topology
from loosestep.topologies.one_peer_exponential import OnePeerExponential

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Communication, Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class OverlapSGP(PushSumStrategy, LateStrategy):
    """SGP that goes on while it pushes: x_i <- sum_j p_ij x_j(s) + (x_i - x_i(s)), w likewise, z_i <- x_i / w_i.

    x(s), w(s) are what was sent at step s, and x_i - x_i(s) the local steps since, whose gradients are taken at
    z_i and which move z_i as they move x_i until the next message. Columns of P sum to 1, so sum_i x_i and sum_i
    w_i are conserved, what is on its way included: a worker counts what it has sent as its own until that arrives.
    Before a checkpoint what is on its way is completed, and kept. On a doubly stochastic graph w stays 1 and is
    not sent; with period and delay 1 this is then D-PSGD that combines first. The consensus is mean_i x_i.

    topology: which workers read which, a doubly or column-stochastic `Topology`; it may change from step to step.
    period: local steps between two messages.
    delay: local steps from sending to receiving, by default the period; 0 is `SGP` every `period` steps.

    A round sends d values to each reader, one message each, and w with them where the graph is not doubly
    stochastic.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> result = ls.run(ls.OverlapSGP(), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(4))
    >>> bool(abs(result.params - 2.5).max() < 0.1)
    True

    Reference: M. Assran, N. Loizou, N. Ballas, M. Rabbat, Stochastic Gradient Push for Distributed Deep Learning,
    arXiv:1811.10792, algorithm 2 (there what was sent is taken from x at once, which leaves z as it is).
    """

    topology: Topology = field(default_factory=OnePeerExponential)
    period: int = 1
    delay: int | None = None

    def __post_init__(self) -> None:
        self.check_topology()
        checks.integer("period", self.period)
        self.check_delay()

    @property
    def steps_late(self) -> int:
        return self.period if self.delay is None else self.delay

    def init(self, worker: Worker) -> State:
        self.topology.check_size(worker.size)
        sent = buffers.like(worker.params, worker.params.size + self.pushes)
        state = State(weight=1.0, sent=sent, snapshot=buffers.like(worker.params), coming=None)
        if self.pushes:
            state.offset = buffers.like(worker.params)  # x - z, which local steps leave as it is
        return state

    def send(self, worker: Worker, state: State) -> Communication:
        d = worker.params.size
        ops.copy(worker.params, state.snapshot)
        ops.copy(worker.params, state.sent[:d])
        if self.pushes:
            ops.axpy(state.sent[:d], state.offset, 1.0)
            state.sent[d:].fill(state.weight)
        return Mix(state.sent, self.topology.weights(worker.rank, worker.size, worker.round - 1))

    def receive(self, worker: Worker, state: State) -> None:
        d = worker.params.size
        ops.correct(worker.params, state.snapshot, state.sent[:d])
        if self.pushes:
            state.weight = float(here(state.sent[d:])[0])
            ops.copy(worker.params, state.offset)
            ops.scale(worker.params, 1 / state.weight)
            ops.subtract(state.offset, worker.params, state.offset)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Yield the mean of x: what was sent and has not arrived counts as its sender's."""
        ops.copy(worker.params, out)
        if self.pushes:
            ops.axpy(out, state.offset, 1.0)
        yield AllReduce(out, op="mean")
