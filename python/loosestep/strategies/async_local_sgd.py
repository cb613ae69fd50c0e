"""Local SGD without waiting, its outer momentum delayed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from loosestep import ops
from loosestep.foundation import buffers, checks
from loosestep.requests import Fetch, Local, Push, Sleep
from loosestep.strategies.base import Cost, Need, State, Strategy, outer_cautions, pull

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class AsyncLocalSGD(Strategy):
    """Asynchronous local SGD with delayed Nesterov (DN) and dynamic local updates (DyLU).

    A worker makes H local steps, pushes D = what it pulled - x, and pulls c. Where c is kept, push number k does

        c <- c - rate D / N, and if N divides k: m <- mu m + mean of the last N D's, c <- c - rate mu m

    so that N pushes together are one Nesterov step on their mean. Local optimizer buffers are kept: AdamW's, in
    the practice of 2026, with 30 to 100 local steps.

    period: H, local steps between two pushes of the fastest worker.
    rate: outer learning rate.
    momentum: mu, outer. By default none: N pushes together move c to the mean of where workers came. In the end c
        moves rate / (1 - mu) times as far, 7 times with the paper's 0.7 and 0.9, which are for rounds of 50 steps
        and more with AdamW, and diverge or nearly so in short ones with a momentum optimizer.
    delay: N, pushes that share a step of the momentum; by default the number of workers, 1 is Nesterov at each
        push.
    speeds: worker w makes max(1, floor(H speed_w / fastest)) local steps, so that all push equally often (DyLU).
        'measured' is by local steps in a second of computing, each worker's in its last round, told to all with
        its push; before all have told, H. Or given for each worker, in any unit. With None all make H, since
        rounds of a few milliseconds measure the noise of the machine.
    grace: seconds between a push and the pull that follows it, which so sees what others push within them.

    A round sends d values in 1 message (and n numbers in another where speeds are measured) and receives as much.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> result = ls.run(ls.AsyncLocalSGD(), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 0.1)
    True

    Reference: B. Liu et al., Asynchronous Local-SGD Training for Language Modeling, arXiv:2401.09135, section 5
    (the form with c = 0; that speeds are those of the last round, and that all wait as long for a grace period,
    are this library's definitions).
    """

    synchronous: ClassVar[bool] = False
    consensus_is: ClassVar[Literal["collective", "one-sided"]] = "one-sided"
    consensus_in: ClassVar[str] = "state.center"
    period: int = 8
    rate: float = 1.0
    momentum: float = 0.0
    delay: int | None = None
    speeds: tuple[float, ...] | str | None = None
    grace: float = 0.0

    def __post_init__(self) -> None:
        checks.integer("period", self.period)
        checks.positive("rate", self.rate)
        checks.positive("momentum", self.momentum, zero=True)
        checks.at_most("momentum", self.momentum, 1)
        if self.delay is not None:
            checks.integer("delay", self.delay)
        checks.positive("grace", self.grace, zero=True)
        if isinstance(self.speeds, str):
            checks.one_of("speeds", self.speeds, ("measured",))
        else:
            for speed in self.speeds or ():
                checks.positive("speeds", speed)

    def warnings(self, size: int) -> list[str]:
        return outer_cautions(self.period, self.rate, self.momentum)

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        return frozenset({Need.STEP_TIMES} if self.speeds == "measured" else ())

    def steps(self, rank: int, size: int) -> int:
        """Return the local steps of a worker's first round: of all its rounds, where speeds are given."""
        if self.speeds is None or isinstance(self.speeds, str):
            return self.period
        if len(self.speeds) != size:
            raise ValueError(f"speeds must be one for each of {size} workers, got {len(self.speeds)}")
        return self.dynamic(self.speeds[rank], max(self.speeds))

    def dynamic(self, speed: float, fastest: float) -> int:
        """Return the steps of DyLU; a quotient that rounding left just below a whole number is that number."""
        return max(1, int(self.period * speed / fastest + 1e-9))

    def cost(self, n: int, d: int) -> Cost:
        return Cost(d, 2, 8 * n) if self.speeds == "measured" else Cost(d, 1)

    def init(self, worker: Worker) -> State:
        steps, none = self.steps(worker.rank, worker.size), buffers.zeros(worker.size, float)
        pulled, rest = worker.copy_of_params(), worker.copy_of_params()
        rest.fill(0)
        center, momentum, total = (
            worker.shared(name, like=pulled if name == "center" else rest)
            for name in ("center", "momentum", "total")
        )
        state = State(center=center, momentum=momentum, total=total, pulled=pulled, steps=steps)
        if self.speeds == "measured":
            state.speeds, state.speed = worker.shared("speeds", like=none), 0.0
            state.computing, state.clock = worker.computing, worker.clock
        return state

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(state.steps)
        change = state.pulled  # until it holds what is pulled next
        ops.subtract(state.pulled, worker.params, change)
        scalars = (self.rate, self.momentum, float(self.delay or worker.size))
        yield Push("delayed_nesterov", (state.center, state.momentum, state.total), (change,), scalars)
        if self.speeds == "measured":
            yield from self.measure(worker, state)
        if self.grace:
            yield Sleep(self.grace)
        yield from pull(worker, state, state.center)

    def measure(self, worker: Worker, state: State) -> Iterator[Request]:
        """Add this worker's speed to those of all, fetch them, and choose the steps of the next round."""
        change, speeds = (
            worker.workspace("change", worker.size, "float64"),
            worker.workspace("speeds", worker.size, "float64"),
        )
        seconds, steps = worker.computing - state.computing, worker.clock - state.clock
        speed = steps / seconds if seconds > 0 else state.speed
        change.fill(0)
        change[worker.rank] = speed - state.speed
        yield Push("axpy", (state.speeds,), (change,), (1.0,))
        yield Fetch(state.speeds, into=speeds)
        state.computing, state.clock, state.speed = worker.computing, worker.clock, speed
        if speed and min(speeds) > 0:
            state.steps = self.dynamic(speed, max(speed, float(max(speeds))))

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Fetch the center."""
        yield Fetch(state.center, into=out)
