"""DOWNPOUR SGD with Nesterov's momentum where the center is kept."""

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
class MomentumDownpour(Strategy):
    """MDOWNPOUR: a worker pushes its step s; the center moves by v <- mu v + k s, y <- y + k s + mu v; it pulls y.

    y is the look-ahead point x + mu v of Nesterov's momentum, where gradients are taken, and which is evaluated.
    With SGD(eta) on the worker s = -eta g(y). Every step is pushed: the paper knows no form for longer periods. A
    step moves the center by k / (1 - mu) steps in the end, and workers' steps add up. By default that is one step,
    so learning rates are those of Downpour. The paper has k = 1, where one worker is MSGD, and learning rates
    smaller by 1 - mu.

    momentum: mu.
    scale: k, None for 1 - mu.

    A round sends d values in 1 message and receives d values in 1.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> result = ls.run(ls.MomentumDownpour(), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 0.1)
    True

    Reference: S. Zhang, A. Choromanska, Y. LeCun, arXiv:1412.6651, section 5 and its supplement (that momentum is
    at the master, and for period 1; the form of Nesterov's recursion, and k, are this library's).
    """

    synchronous: ClassVar[bool] = False
    consensus_is: ClassVar[Literal["collective", "one-sided"]] = "one-sided"
    consensus_in: ClassVar[str] = "state.center"
    momentum: float = 0.9
    scale: float | None = None

    def __post_init__(self) -> None:
        checks.positive("momentum", self.momentum, zero=True)
        checks.at_most("momentum", self.momentum, 1)
        if self.scale is not None:
            checks.positive("scale", self.scale)
        elif self.momentum == 1:
            raise ValueError("scale must be given where momentum is 1: 1 - momentum would move nothing")

    @property
    def weight(self) -> float:
        """Return the weight of a step at the center: k."""
        return 1 - self.momentum if self.scale is None else self.scale

    def cost(self, n: int, d: int) -> Cost:
        return Cost(d, 1)

    def init(self, worker: Worker) -> State:
        pulled, rest = worker.copy_of_params(), worker.copy_of_params()
        rest.fill(0)
        center, velocity = worker.shared("center", like=pulled), worker.shared("velocity", like=rest)
        return State(center=center, velocity=velocity, pulled=pulled)

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(1)
        scalars = (-self.weight, self.momentum)
        yield Push("nesterov", (state.center, state.velocity), (steps_taken(worker, state),), scalars)
        yield from pull(worker, state, state.center)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Fetch the center: the look-ahead point."""
        yield Fetch(state.center, into=out)
