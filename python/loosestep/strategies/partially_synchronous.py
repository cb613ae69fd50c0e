"""Asynchronous SGD whose fastest workers wait now and then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from loosestep.foundation import checks
from loosestep.requests import Barrier, Fetch, Local, Push, Start, Wait
from loosestep.strategies.base import Cost, State, Strategy, pull, steps_taken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class PartiallySynchronous(Strategy):
    """Asynchronous SGD, c <- c + (x - what was pulled), x <- c, where no worker gets far ahead.

    A worker makes `period` steps, then waits until all others have made the first of their `period`; then all
    count anew. With period 1 all march in step; with a period of all steps it is Downpour(1).

    period: steps that a worker may make while another has made none.

    A round sends period d values in period messages, and ceil(log2 n) empty ones; it receives period d values.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> result = ls.run(ls.PartiallySynchronous(), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 0.1)
    True

    Reference: Z. Zheng et al., SpeeDO, LearningSys workshop at NIPS 2015, the partially synchronous mode of its
    release (maxAdvance is `period`; that counters are each worker's own is this library's definition).
    """

    synchronous: ClassVar[bool] = False
    attends: ClassVar[bool] = True
    consensus_is: ClassVar[Literal["collective", "one-sided"]] = "one-sided"
    consensus_in: ClassVar[str] = "state.center"
    period: int = 4

    def __post_init__(self) -> None:
        checks.integer("period", self.period)

    def cost(self, n: int, d: int) -> Cost:
        return Cost(self.period * d, self.period + (n - 1).bit_length())

    def init(self, worker: Worker) -> State:
        center = worker.shared("center", like=worker.params)
        return State(center=center, pulled=worker.copy_of_params(), first=None, made=0)

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        """Yield the steps of a round that are left: `state` says how many were made, and holds the barrier."""
        for step in range(state.made, self.period):
            yield Local(1, after=0)
            yield Push("axpy", (state.center,), (steps_taken(worker, state),), (1.0,), arrived=True)
            if not step:
                state.first = Barrier(tuple(range(worker.size)))  # of a group: it goes on beside everywhere
                yield Start(state.first)
            if step == self.period - 1:
                yield Wait(state.first)
                state.first = None
            yield from pull(worker, state, state.center)
            state.made = (step + 1) % self.period

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Fetch the center."""
        yield Fetch(state.center, into=out)
