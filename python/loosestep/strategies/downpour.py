"""DOWNPOUR SGD: push accumulated steps, pull parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from loosestep.foundation import checks
from loosestep.requests import Fetch, Local, Push
from loosestep.strategies.base import Cost, State, Strategy, pull, steps_taken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class Downpour(Strategy):
    """Asynchronous SGD with a center: `period` local steps, c <- c + (x - what was pulled), x <- c.

    Steps are summed, not averaged, so it breaks at large periods or many workers: with n workers pushing
    evenly staggered it is stable on a quadratic of curvature h iff
    1 - (1 - eta h)^period < 2 sin(pi / (2 (2n - 1))).

    period: local steps between two pushes; 1 is ordinary asynchronous SGD.

    A round sends d values in 1 message and receives d values in 1.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> result = ls.run(ls.Downpour(), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 0.1)
    True

    Reference: J. Dean et al., Large Scale Distributed Deep Networks, NIPS 2012, section 4.1, without its
    Adagrad, as compared with in arXiv:1412.6651. There a step begins with the push of those before it, here a
    round ends with it: nothing lies between, and at the end of the data no step stays behind.
    """

    keeps_temperature: ClassVar[bool] = True  # steps are summed with their noise
    synchronous: ClassVar[bool] = False
    consensus_is: ClassVar[Literal["collective", "one-sided"]] = "one-sided"
    consensus_in: ClassVar[str] = "state.center"
    period: int = 1

    def __post_init__(self) -> None:
        checks.integer("period", self.period)

    def cost(self, n: int, d: int) -> Cost:
        return Cost(d, 1)

    def init(self, worker: Worker) -> State:
        return State(center=worker.shared("center", like=worker.params), pulled=worker.copy_of_params())

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(self.period)
        yield Push("axpy", (state.center,), (steps_taken(worker, state),), (1.0,))
        yield from pull(worker, state, state.center)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Fetch the center."""
        yield Fetch(state.center, into=out)
