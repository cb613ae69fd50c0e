"""What all programs of a run have in common: its lengths, its hooks at synchronization points, where it stops."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from loosestep.runtime import stage_switch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from loosestep.requests import Request
    from loosestep.requests.worker import Worker
    from loosestep.strategies.base import Strategy


class Member(Protocol):
    """What a plan reads of each program of its process."""

    worker: Worker
    next_step: int  # the step that it may have begun
    ended: bool
    stays: bool


P = TypeVar("P", bound=Member)


def evaluate_nothing(program: Any, step: int) -> bool:
    """Return False: the run goes on."""
    return False


def save_nothing(program: Any, step: int) -> Generator[Request, None, bool]:
    """Yield no request; return False: nothing failed."""
    yield from ()
    return False


def commit_nothing(program: Any, step: int, failed: bool) -> Iterator[Request]:
    """Yield no request."""
    return iter(())


def keep_time(rank: int, still: bool) -> None:
    """Let the worker's clock go on."""


@dataclass
class Plan(Generic[P]):
    """What all programs of a run have in common.

    A plan of a strategy alone runs until the data ends, evaluates nothing and writes no checkpoint.
    """

    strategy: Strategy
    steps: int | None = None  # local steps a worker; None: until its data ends
    every: int | None = None  # steps between evaluations
    checkpoint_every: int | None = None
    steps_per_epoch: int | None = None
    evaluate: Callable[[P, int], bool] = evaluate_nothing  # by rank 0, after a consensus, at a step; True: stop
    save: Callable[[P, int], Generator[Request, None, bool]] = save_nothing  # a worker's part; whether it failed
    commit: Callable[[P, int, bool], Iterator[Request]] = commit_nothing  # all saved; if any failed, all raise
    pause: Callable[[int, bool], None] = keep_time  # a worker's clock, if real, stops and goes on
    begin_halt: Callable[[], None] = field(init=False)  # lets every process `prepare`, then all `decide`
    await_halt: Callable[[Callable[[], bool]], None] = field(init=False)  # until it is decided, and no longer
    programs: list[P] = field(default_factory=list)
    halting: bool = False  # a synchronization point was asked for; `halt_at` follows
    halt_at: int | None = None  # stop there
    asks: bool = False  # a loop of the user's: whether there is data for a round is asked when it begins

    def __post_init__(self) -> None:
        self.ends = stage_switch.ends(self.strategy, self.steps_per_epoch)

    @property
    def apart(self) -> bool:
        """Whether workers live in several processes."""
        return len(self.programs) < self.programs[0].worker.size

    def halt(self) -> None:
        """Ask all workers to stop at one step that none of them has passed. Safe from any thread:

        1. Before a step a worker writes its number (`next_step`), then reads `halting`.
        2. So a worker that read it as false wrote its step before, and the maximum below includes it.
        3. A worker that reads it as true waits for `halt_at`, which is at least every step that was begun.
        """
        if not self.halting:
            self.begin_halt()

    def prepare(self) -> int:
        """Hold the workers of this process; the step that none of them has passed."""
        self.halting = True
        # Workers that stay are in lockstep, even when their data has ended.
        return max((p.next_step for p in self.programs if p.stays or not p.ended), default=0)

    def decide(self, step: int) -> None:
        """Stop all workers at that step; of two concurrent decisions the first counts."""
        if self.halt_at is None:
            self.halt_at = step

    def decided(self) -> bool:
        """Return whether the step at which all stop is known."""
        return self.halt_at is not None

    def halts(self, clock: int) -> bool:
        """Return whether a worker at `clock` has come to where all stop."""
        if self.halting and not self.decided():
            self.await_halt(self.decided)
        return self.halt_at is not None and clock >= self.halt_at
