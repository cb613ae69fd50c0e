"""Elastic averaging SGD, asynchronous."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from loosestep import ops
from loosestep.foundation import checks
from loosestep.requests import Elastic, Fetch, Gradient, Local, Start, Update, Wait
from loosestep.strategies.base import Cost, State, Strategy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class EASGD(Strategy):
    """Elastic averaging: x <- x - a (x - c) on the worker, c <- c + a (x - c) at the center, one vector.

    No worker waits for another. The exchange conserves c + sum_i x_i. With a Nesterov local optimizer this is
    EAMSGD; replicas, and so the center, are then look-ahead points x + mu v, where the gradient is taken, and the
    elastic move acts on these (the release applies it to x: for mu = 0 and for a = 0 they agree).

    period: local steps between two exchanges (tau).
    moving_rate: a, by default 0.9 / n. It must shrink with n: a = 0.9 with 16 workers explodes.
    order: 'after' moves elastically after the local steps (more stable). 'published' begins a round with the
        exchange, as the paper and its release do: c is read and moved by d = a (x - c) while the round's first
        gradient is taken at x, and x moves by both, x <- x - eta g(x) - d. So others see the move one gradient
        earlier, and no worker waits for the links.

    A round sends d values in 1 message and receives d values in 1.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> result = ls.run(ls.EASGD(period=4), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 0.1)
    True

    Reference: S. Zhang, A. Choromanska, Y. LeCun, Deep learning with Elastic Averaging SGD, arXiv:1412.6651,
    algorithms 1 and 2.
    """

    synchronous: ClassVar[bool] = False
    consensus_is: ClassVar[Literal["collective", "one-sided"]] = "one-sided"
    consensus_in: ClassVar[str] = "state.center"
    period: int = 10
    moving_rate: float | None = None
    order: Literal["after", "published"] = "after"

    def __post_init__(self) -> None:
        checks.integer("period", self.period)
        checks.one_of("order", self.order, ("after", "published"))
        if self.moving_rate is not None:
            checks.positive("moving_rate", self.moving_rate, zero=True)

    def rate(self, size: int) -> float:
        """Return the moving rate for that many workers."""
        return 0.9 / size if self.moving_rate is None else self.moving_rate

    def warnings(self, size: int) -> list[str]:
        moving = self.rate(size)
        if moving * (size + 1) < 2:
            return []
        return [
            f"moving_rate {moving:g} explodes when all {size} workers meet the center at once, at any learning "
            f"rate: it must be below 2 / (n + 1) = {2 / (size + 1):.3g}, and is {0.9 / size:.3g} by default"
        ]

    def cost(self, n: int, d: int) -> Cost:
        return Cost(d, 1)

    def init(self, worker: Worker) -> State:
        state = State(center=worker.shared("center", like=worker.params))
        if self.order == "published":
            state.met = False  # in this round
        return state

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        if self.order == "published":
            if not state.met:
                yield from self.step_and_exchange(worker, state)
            state.met = True
            yield Local(self.period - 1, after=0)
            state.met = False
        else:
            yield Local(self.period)
            yield Elastic(worker.params, state.center, self.rate(worker.size))

    def step_and_exchange(self, worker: Worker, state: State) -> Iterator[Request]:
        """Yield a step whose gradient and elastic move begin at one point and go on side by side."""
        here, moved = (worker.scratch(name, like=worker.params) for name in ("here", "moved"))
        ops.copy(worker.params, here)
        ops.copy(here, moved)
        exchange = Elastic(moved, state.center, self.rate(worker.size))
        yield Start(exchange)
        yield Gradient()
        yield Wait(exchange)
        yield Update()
        ops.subtract(here, moved, moved)  # d, taken from x last: decay and momentum know nothing of it
        ops.axpy(worker.params, moved, -1.0)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Fetch the center variable."""
        yield Fetch(state.center, into=out)
