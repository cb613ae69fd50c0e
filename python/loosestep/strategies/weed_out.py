"""Asynchronous SGD that drops what comes too late."""

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
class WeedOut(Strategy):
    """DOWNPOUR that weeds out steps which come too late.

    c <- c + (x - what was pulled) if the pull was among the last `queue` moves of the center, else the steps are
    lost; x <- c in any case, so a worker goes on from fresh weights. Judged where the center is kept, for each of
    its parts by itself. A queue of n never drops workers of one speed.

    period: local steps between two pushes.
    queue: a push is dropped if more than this, itself included, came since its worker pulled; by default 2 n.

    A round sends d values in 1 message and receives d values in 1.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> result = ls.run(ls.WeedOut(), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 0.1)
    True

    Reference: Z. Zheng et al., SpeeDO, LearningSys workshop at NIPS 2015, the weed-out mode of its release (that
    dropped pushes count as moves is this library's definition).
    """

    synchronous: ClassVar[bool] = False
    consensus_is: ClassVar[Literal["collective", "one-sided"]] = "one-sided"
    consensus_in: ClassVar[str] = "state.center"
    period: int = 1
    queue: int | None = None

    def __post_init__(self) -> None:
        checks.integer("period", self.period)
        if self.queue is not None:
            checks.integer("queue", self.queue)

    def cost(self, n: int, d: int) -> Cost:
        return Cost(d, 1)

    def init(self, worker: Worker) -> State:
        center = worker.shared("center", like=worker.params)
        return State(center=center, pulled=worker.copy_of_params(), seen=buffers.zeros(1, float))

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(self.period)
        queue = float(2 * worker.size if self.queue is None else self.queue)
        yield Push("add_if_recent", (state.center,), (steps_taken(worker, state),), (float(state.seen[0]), queue))
        yield from pull(worker, state, state.center, state.seen)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Fetch the center."""
        yield Fetch(state.center, into=out)
