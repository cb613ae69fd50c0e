"""What a transport is: it carries the requests of all workers, in real or in virtual time."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from loosestep.foundation import buffers
from loosestep.foundation.errors import (
    Aborted,
    CheckpointError,
    Diverged,
    Mismatch,
    PeerFailed,
    TimedOut,
    WorkerFailed,
)
from loosestep.foundation.value import Value
from loosestep.requests import Compute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from loosestep.requests import Buffer, Request, Shared
    from loosestep.requests.worker import Worker


@dataclass(eq=False)
class Task:
    """One worker's whole run: its requests, already lowered, and who performs those that compute.

    `compute(request)` returns how many gradient steps it began; virtual time charges them.
    """

    worker: Worker
    requests: Iterator[Request]
    compute: Callable[[Request], int]


class Transport(Value):
    """Base of every transport: a value that says how workers are joined. `open()` makes what one run needs."""

    virtual: ClassVar[bool] = False  # its seconds are simulated

    @classmethod
    def example(cls) -> Transport:
        """An instance of about four workers for contract tests."""
        return cls()

    @property
    @abstractmethod
    def size(self) -> int:
        """How many workers."""

    @abstractmethod
    def open(self, seed: int = 0) -> Session:
        """Fresh resources for one run; `seed` is of whatever is random in it."""


class Session(ABC):
    """The resources of one run: shared variables, clocks, and whatever carries messages."""

    native: frozenset[type[Request]]  # communications it performs itself; others are lowered
    unpriced: frozenset[type[Request]] = frozenset()  # also, without price, where a worker is unmetered
    hosted: bool = True  # its workers share a host's memory, and can hold buffers in common
    grouped: bool = True  # its own collectives take groups; else those of a group are lowered
    hosts: tuple[tuple[int, ...], ...] = ()  # the ranks of each, where collectives are to be two-level
    ranks: Sequence[int]  # the workers that live in this process

    @abstractmethod
    def share(self, rank: int, name: str, like: Buffer) -> Shared:
        """The shared variable of that name; the first call makes it from `like`."""

    def store(self, shared: Shared, values: Buffer, version: int = 0) -> None:
        """Set a shared variable, moved so often, while no worker runs (a checkpoint is being restored)."""
        shared.store.store(values, version)

    def version(self, shared: Shared) -> int:
        """How often a shared variable was moved, while no worker runs."""
        moves: int = shared.store.version
        return moves

    def in_common(self, name: str, like: Buffer) -> Buffer:
        """The buffer of that name, one for all workers of `hosted` ones, with rank 0's values."""
        common: Buffer = buffers.copy_of(like)
        return common

    @abstractmethod
    def now(self, rank: int) -> float:
        """Seconds since the run began on this worker's clock, real or virtual, quiesce points left out."""

    @abstractmethod
    def clock(self, rank: int) -> Callable[[], float]:
        """A cheap clock of this worker, good for differences only."""

    @abstractmethod
    def run(self, tasks: Sequence[Task]) -> None:
        """Carry every task to its end, or raise what stopped the first that failed, all others stopped."""

    def join(self, worker: Worker) -> Endpoint:
        """Let a loop that belongs to the user perform this worker's communications; the clock begins."""
        name = type(self).__name__.removesuffix("Session")
        raise TypeError(f"{name} has no place for a loop of your own, which needs a process for each worker")

    def wrap(self, worker: Worker, requests: Iterator[Request]) -> Iterator[Request]:
        """What a wrapper does to the requests of a worker as they pass."""
        return requests

    @abstractmethod
    def resume(self, rank: int, seconds: float) -> None:
        """Let this worker's clock begin at `seconds`."""

    @abstractmethod
    def pause(self, rank: int) -> None:
        """This worker's clock, if real, stops: all workers are at a quiesce point."""

    @abstractmethod
    def proceed(self, rank: int) -> None:
        """This worker's clock goes on."""

    # --- where workers live in several processes ---------------------------------------------------------

    def surveying(self, topic: str, mine: Callable[[], Any]) -> Callable[[], list[Any]]:
        """A function that asks every process `mine` (JSON) at any time; answers in the order of ranks."""
        return lambda: [mine()]

    def halting(self, prepare: Callable[[], int], decide: Callable[[int], None]) -> Callable[[], None]:
        """A function that begins a halt: every process prepares, all decide the largest answer. Never waits."""
        return lambda: decide(prepare())

    def await_halt(self, decided: Callable[[], bool]) -> None:
        """Block a worker until a halt that has begun is decided; raise if that is in vain."""
        while not decided():
            time.sleep(0)

    def leave(self, error: BaseException | None) -> None:
        """The run is over here, or `error` ended it: nothing more is asked of this session."""
        return


class Endpoint(ABC):
    """One worker's end of a transport in real time: performs a request, blocking with a deadline."""

    rank: int
    doing: Request | None = None  # what the others name when this worker is late

    @property
    @abstractmethod
    def handlers(self) -> dict[type[Request], Callable[..., object]]:
        """What performs each type of communication."""

    def check(self) -> None:
        """Raise if another worker has failed: for one that computes and never waits."""
        return


def drive(task: Task, endpoint: Endpoint) -> None:
    """The whole driver of a worker in real time."""
    handlers: dict[type[Request], Callable[..., object]] = dict(endpoint.handlers)
    handlers.update(dict.fromkeys(Compute.__subclasses__(), task.compute))
    for request in task.requests:
        endpoint.doing = request
        handlers[type(request)](request)


SAYS_WHERE = (WorkerFailed, PeerFailed, TimedOut, Mismatch, Diverged, CheckpointError, Aborted, KeyboardInterrupt)
"""Errors that name the worker or the file themselves."""


def failure(worker: Worker, during: Request | None, cause: BaseException) -> BaseException:
    """The error that the caller sees when `cause` stopped a worker: says who, when and where, once."""
    if isinstance(cause, SAYS_WHERE):
        return cause
    where = "the start of a round" if during is None else str(during)
    error = WorkerFailed(worker.rank, worker.round, where, cause)
    error.__cause__ = cause
    return error
