"""DOWNPOUR SGD with Nesterov's momentum where the center is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from loosestep import ops
from loosestep.errors import at_most, positive
from loosestep.requests import Fetch, Local, Push
from loosestep.strategy import State, Strategy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request
    from loosestep.worker import Worker


@dataclass(frozen=True, repr=False)
class MomentumDownpour(Strategy):
    """MDOWNPOUR: a worker pushes its step s; the center moves by v <- mu v + s, y <- y + s + mu v; it pulls y.

    y is the look-ahead point x + mu v of Nesterov's momentum, where gradients are taken; with SGD(eta) on the
    worker s = -eta g(y), and one worker is MSGD. Every step is pushed: the paper knows no form for longer periods.
    A step is worth 1 / (1 - mu) steps in the end, and workers' steps add up: learning rates must be that much
    smaller.

    momentum: mu.

    A round sends d values in 1 message and receives d values in 1.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> strategy, rate = ls.MomentumDownpour(momentum=0.9), ls.SGD(0.01)
    >>> result = ls.run(strategy, lambda x, b: x - b, np.zeros(3), batches, optimizer=rate, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 0.1)
    True

    Reference: S. Zhang, A. Choromanska, Y. LeCun, arXiv:1412.6651, section 5 and its supplement (that momentum is
    at the master, and for period 1; the form of Nesterov's recursion is this library's).
    """

    synchronous: ClassVar[bool] = False
    consensus_is: ClassVar[Literal["collective", "one-sided"]] = "one-sided"
    consensus_in: ClassVar[str] = "state.center"
    momentum: float = 0.9

    @classmethod
    def example(cls) -> MomentumDownpour:
        """Stable at the learning rates of the contract tests."""
        return cls(momentum=0.5)

    def __post_init__(self) -> None:
        positive("momentum", self.momentum, zero=True)
        at_most("momentum", self.momentum, 1)

    def init(self, worker: Worker) -> State:
        pulled, rest = worker.copy_of_params(), worker.copy_of_params()
        rest.fill(0)
        center, velocity = worker.shared("center", like=pulled), worker.shared("velocity", like=rest)
        return State(center=center, velocity=velocity, pulled=pulled)

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(1)
        step = state.pulled  # until it holds what is pulled next
        ops.subtract(worker.params, state.pulled, step)
        yield Push("nesterov", (state.center, state.velocity), (step,), (-1.0, self.momentum))
        yield Fetch(state.center, into=worker.params)
        ops.copy(worker.params, state.pulled)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """The center: the look-ahead point."""
        yield Fetch(state.center, into=out)
