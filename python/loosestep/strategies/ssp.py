"""Asynchronous SGD with bounded staleness."""

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
class SSP(Strategy):
    """Stale synchronous parallel: a step, c <- c + (x - what was pulled), x <- c, by workers of bounded distance.

    No worker begins a step while another has made `bound` steps fewer: after its step t it waits until all have
    pushed their step t + 1 - bound. So what it then pulls has the steps of all up to that one, its own, and
    possibly more; the slowest never waits. With bound 1 all march in step; without a bound it would be
    Downpour(1). There is no polling: every step starts a barrier, and waits for an earlier one.

    bound: the most steps by which a worker may be ahead of another; the paper's s is bound - 1. At most 25.

    A round sends d values in 1 message, and ceil(log2 n) empty ones; it receives d values in 1.

    >>> import loosestep as ls, numpy as np
    >>> batches = lambda rank, size: iter([1.0 + rank] * 400)
    >>> result = ls.run(ls.SSP(), lambda x, b: x - b, np.zeros(3), batches, on=ls.Simulated(2))
    >>> bool(abs(result.params - 1.5).max() < 0.1)
    True

    Reference: Q. Ho et al., More Effective Distributed ML via a Stale Synchronous Parallel Parameter Server, NIPS
    2013, section 2 (the bound; by barriers instead of a server's clocks).
    """

    synchronous: ClassVar[bool] = False
    attends: ClassVar[bool] = True
    consensus_is: ClassVar[Literal["collective", "one-sided"]] = "one-sided"
    consensus_in: ClassVar[str] = "state.center"
    bound: int = 4

    def __post_init__(self) -> None:
        checks.integer("bound", self.bound)
        if self.bound > 25:  # barriers that are open at once
            raise ValueError(f"bound must be at most 25, got {self.bound}: Downpour(1) has none")

    def cost(self, n: int, d: int) -> Cost:
        return Cost(d, 1 + (n - 1).bit_length())

    def init(self, worker: Worker) -> State:
        center = worker.shared("center", like=worker.params)
        begun = State(**{slot(step, self.bound): None for step in range(self.bound)})
        return State(center=center, pulled=worker.copy_of_params(), begun=begun)

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        yield Local(1)
        yield Push("axpy", (state.center,), (steps_taken(worker, state),), (1.0,), arrived=True)
        here = Barrier(tuple(range(worker.size)))  # of a group: it goes on beside, on every transport
        yield Start(here)
        setattr(state.begun, slot(worker.round, self.bound), here)
        earlier = slot(worker.round + 1, self.bound)
        if getattr(state.begun, earlier) is not None:
            yield Wait(getattr(state.begun, earlier))
            setattr(state.begun, earlier, None)
        yield from pull(worker, state, state.center)

    def consensus(self, worker: Worker, state: State, out: Buffer) -> Iterator[Request]:
        """Fetch the center."""
        yield Fetch(state.center, into=out)


def slot(step: int, bound: int) -> str:
    """Return the name under which the barrier of a step is kept until it is waited for."""
    return f"of_{step % bound}"
