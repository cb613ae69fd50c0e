"""Ringmaster: asynchronous SGD that uses no step which is too late, and does not even send it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from loosestep.foundation import buffers, checks
from loosestep.requests import Fetch, Local, Push
from loosestep.strategies.base import Cost, State, Strategy, pull, steps_taken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class Ringmaster(Strategy):
    """Asynchronous SGD without late steps: c <- c + (x - what was pulled), x <- c, if the delay is below R.

    The delay is how many steps of others were applied since the pull. One that is too late is lost, and counts
    for nobody.

    R = 1 applies only what was made at the present center; R of all steps is Downpour. With R = max(1, s^2 / e),
    s^2 being the variance of gradients and e the squared gradient norm to be reached, the time is optimal whatever
    the speeds of the workers (of data that are alike).

    There is no server: a worker that has made its step reads how many were applied, and does not send what is too
    late. What others push in the time of a message is judged where the center is kept, for each of its parts
    by itself; a push that is dropped there counts as a move.

    bound: R, by default 2 n.
    period: local steps between two pushes; 1 in the paper.

    A round sends d values in 1 message and a number in another, or nothing; it receives d values and two numbers.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> result = ls.run(ls.Ringmaster(), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 0.1)
    True

    Reference: A. Maranjyan, A. Tyurin, P. Richtarik, Ringmaster ASGD: The First Asynchronous SGD with Optimal Time
    Complexity, arXiv:2501.16168 (from memory), the form that finishes every gradient.
    """

    course_depends_on_values: ClassVar[bool] = True
    synchronous: ClassVar[bool] = False
    consensus_is: ClassVar[Literal["collective", "one-sided"]] = "one-sided"
    consensus_in: ClassVar[str] = "state.center"
    bound: int | None = None
    period: int = 1

    @classmethod
    def example(cls) -> Ringmaster:
        """Return one that applies every step where workers make as many, in whatever order."""
        return cls(bound=25)

    def __post_init__(self) -> None:
        if self.bound is not None:
            checks.integer("bound", self.bound)
        checks.integer("period", self.period)

    def cost(self, n: int, d: int) -> Cost:
        return Cost(d, 2, 8)

    def init(self, worker: Worker) -> State:
        none = buffers.zeros(1, float)
        return State(
            center=worker.shared("center", like=worker.params),
            applied=worker.shared("applied", like=none),
            pulled=worker.copy_of_params(),
            seen=none,
        )

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(self.period)
        bound, now = float(self.bound or 2 * worker.size), worker.workspace("applied", 1, "float64")
        yield Fetch(state.applied, into=now)
        if now[0] - state.seen[0] < bound:
            values = (steps_taken(worker, state),)
            yield Push("add_if_recent", (state.center,), values, (float(state.seen[0]), bound), arrived=True)
            now.fill(1.0)
            yield Push("axpy", (state.applied,), (now,), (1.0,))
        yield from pull(worker, state, state.center, state.seen)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Fetch the center."""
        yield Fetch(state.center, into=out)
