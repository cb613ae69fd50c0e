"""Elastic averaging SGD, one worker after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from loosestep import ops
from loosestep.foundation import checks
from loosestep.requests import AllReduce, Gradient, Update
from loosestep.strategies.base import Cost, State, Strategy
from loosestep.strategies.round_robin import hand_on, my_turn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class RoundRobinEASGD(Strategy):
    """Elastic averaging in turn, as the paper analyses it: worker i sees the center that worker i - 1 left.

    x_i <- x_i - eta g_i(x_i) - a (x_i - c),  c <- c + a (x_i - c), both from the old values.

    The center goes round the workers as a message; gradients are computed side by side. On a quadratic of
    curvature h it is stable if a <= (4 - 2 eta h) / (4 - eta h), for any number of workers (and for one only if).

    moving_rate: a.

    A round sends d values in 1 message.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> result = ls.run(ls.RoundRobinEASGD(), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 0.1)
    True

    Reference: S. Zhang, A. Choromanska, Y. LeCun, arXiv:1412.6651, section 3.
    """

    consensus_in: ClassVar[str] = "state.center"
    moving_rate: float = 0.25

    def __post_init__(self) -> None:
        checks.positive("moving_rate", self.moving_rate, zero=True)

    def warnings(self, size: int) -> list[str]:
        if self.moving_rate <= 1:
            return []
        return [f"moving_rate {self.moving_rate:g} is unstable alone at any learning rate: it must be at most 1"]

    def cost(self, n: int, d: int) -> Cost:
        return Cost(d, 1) if n > 1 else Cost(0, 0)

    def init(self, worker: Worker) -> State:
        return State() if worker.rank else State(center=worker.copy_of_params())

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        center = worker.scratch("center", like=worker.params) if worker.rank else state.center
        yield Gradient()
        yield from my_turn(worker, center)
        ops.elastic(worker.params, center, self.moving_rate)
        yield from hand_on(worker, center)
        yield Update()

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Sum the center, which worker 0 holds between rounds, and zeros."""
        out.fill(0)
        if not worker.rank:
            ops.copy(state.center, out)
        yield AllReduce(out, op="sum")
