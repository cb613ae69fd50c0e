"""Overlap-Local-SGD: an anchor one period old pulls the replicas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loosestep import ops
from loosestep.foundation import buffers, checks
from loosestep.requests import AllReduce, Local, Start, Wait
from loosestep.strategies.base import Cost, State, Strategy, cost_of_mean, no_rate, note_rate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class OverlapLocalSGD(Strategy):
    """Every `period` steps x_i <- x_i + a (z - x_i), z being the mean of the replicas of one period ago.

    It is on its way since. With anchor momentum m the next z is the mean of z - b_i, b_i <- m b_i + (z - x_i),
    after the pull; without, that of x_i, and the method is DaSGD(merge='lerp', keep=k) with k = 1 - a and the
    longest delay. In the first round there is no z yet, and z - x_i is measured from the start. The mean is
    weighted by the samples each worker used in the round.

    period: local steps between two pulls (tau), in which an average is under way.
    pull: a, the share of the way to the anchor; 1 makes all replicas the anchor.
    anchor_momentum: m (gmf in the release).

    A round sends 2 (n-1)/n d values a worker in 2 (n-1) messages, while it computes.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> result = ls.run(ls.OverlapLocalSGD(), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 1e-2)
    True

    Reference: J. Wang, H. Liang, G. Joshi, Overlap-Local-SGD, arXiv:2002.09539, as in its release, whose b is
    divided by the learning rate and multiplied by it again: here b is kept as the product, and follows the local
    optimizer's rate from one round's first step to the next one's.
    """

    period: int = 2
    pull: float = 0.6
    anchor_momentum: float = 0.0

    def __post_init__(self) -> None:
        checks.integer("period", self.period)
        checks.positive("pull", self.pull, zero=True)
        checks.at_most("pull", self.pull, 1)
        checks.positive("anchor_momentum", self.anchor_momentum, zero=True)

    def cost(self, n: int, d: int) -> Cost:
        return cost_of_mean(n, d)

    def init(self, worker: Worker) -> State:
        state = State(anchor=worker.copy_of_params(), coming=None)
        if self.anchor_momentum:
            state.momentum, state.eta = buffers.like(worker.params), no_rate()
        return state

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        if self.anchor_momentum:
            note_rate(worker, state.eta, worker.rate())
        yield Local(self.period)
        pull = 0.0
        if state.coming is not None:
            yield Wait(state.coming)
            pull = self.pull
        self.move(worker, state, pull)
        state.coming = AllReduce(state.anchor, op="mean", weight=worker.samples)
        yield Start(state.coming)

    def move(self, worker: Worker, state: State, pull: float) -> None:
        """Move towards the anchor, and put this worker's part of the next anchor in its place."""
        if self.anchor_momentum:
            momentum = self.anchor_momentum * state.eta.ratio
            ops.anchor(worker.params, state.anchor, state.momentum, pull, momentum)
        else:
            ops.lerp_and_copy(worker.params, state.anchor, pull)
