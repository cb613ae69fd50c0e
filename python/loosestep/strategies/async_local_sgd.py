"""Local SGD without waiting, its outer momentum delayed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from loosestep import ops
from loosestep.errors import at_most, positive, whole
from loosestep.requests import Fetch, Local, Push
from loosestep.strategy import State, Strategy, pull

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request
    from loosestep.worker import Worker


@dataclass(frozen=True, repr=False)
class AsyncLocalSGD(Strategy):
    """Asynchronous local SGD with delayed Nesterov (DN) and dynamic local updates (DyLU).

    A worker makes H local steps, pushes D = what it pulled - x, and pulls c. Where c is kept, push number k does

        c <- c - rate D / N, and if N divides k: m <- mu m + mean of the last N D's, c <- c - rate mu m

    so that N pushes together are one Nesterov step on their mean. Local optimizer buffers are kept.

    period: H, local steps between two pushes of the fastest worker.
    rate: outer learning rate.
    momentum: mu, outer.
    delay: N, pushes that share a step of the momentum; by default the number of workers, 1 is Nesterov at each
        push.
    speeds: of each worker, in any unit (DyLU): worker w makes max(1, floor(H speed_w / fastest)) local steps, so
        that all push equally often. By default all make H.

    A round sends d values in 1 message and receives d values in 1.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> result = ls.run(ls.AsyncLocalSGD(), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 0.1)
    True

    Reference: B. Liu et al., Asynchronous Local-SGD Training for Language Modeling, arXiv:2401.09135, section 5
    (the form with c = 0; speeds are given, not measured; no grace period).
    """

    synchronous: ClassVar[bool] = False
    consensus_is: ClassVar[Literal["collective", "one-sided"]] = "one-sided"
    consensus_in: ClassVar[str] = "state.center"
    period: int = 8
    rate: float = 0.7
    momentum: float = 0.9
    delay: int | None = None
    speeds: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        whole("period", self.period)
        positive("rate", self.rate)
        positive("momentum", self.momentum, zero=True)
        at_most("momentum", self.momentum, 1)
        if self.delay is not None:
            whole("delay", self.delay)
        for speed in self.speeds or ():
            positive("speeds", speed)

    def steps(self, rank: int, size: int) -> int:
        """Local steps in a round of that worker."""
        if self.speeds is None:
            return self.period
        if len(self.speeds) != size:
            raise ValueError(f"speeds must be one for each of {size} workers, got {len(self.speeds)}")
        return max(1, int(self.period * self.speeds[rank] / max(self.speeds)))

    def init(self, worker: Worker) -> State:
        self.steps(worker.rank, worker.size)  # refuses what does not fit
        pulled, rest = worker.copy_of_params(), worker.copy_of_params()
        rest.fill(0)
        center, momentum, total = (
            worker.shared(name, like=pulled if name == "center" else rest)
            for name in ("center", "momentum", "total")
        )
        return State(center=center, momentum=momentum, total=total, pulled=pulled)

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(self.steps(worker.rank, worker.size))
        change = state.pulled  # until it holds what is pulled next
        ops.subtract(state.pulled, worker.params, change)
        scalars = (self.rate, self.momentum, float(self.delay or worker.size))
        yield Push("delayed_nesterov", (state.center, state.momentum, state.total), (change,), scalars)
        yield from pull(worker, state, state.center)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """The center."""
        yield Fetch(state.center, into=out)
