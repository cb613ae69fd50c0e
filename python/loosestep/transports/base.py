"""The interface of transports, which carry the requests of all workers, in real or in virtual time."""

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
    from loosestep.requests.links import Links
    from loosestep.requests.memo import Memo
    from loosestep.requests.worker import Worker


@dataclass(eq=False)
class Task:
    """One worker's whole run: its requests, already lowered, and what performs those that compute.

    `compute(request)` returns how many gradient steps it began; virtual time charges them.
    """

    worker: Worker
    requests: Iterator[Request]
    compute: Callable[[Request], int]


class Transport(Value):
    """Base of every transport: a value that says how workers are connected. `open()` makes what one run needs."""

    virtual: ClassVar[bool] = False  # its seconds are simulated

    @classmethod
    def example(cls) -> Transport:
        """Return an instance of about four workers for contract tests."""
        return cls()

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of workers."""

    @abstractmethod
    def open(self, seed: int = 0) -> Session:
        """Make the resources of one run; `seed` is for whatever is random in it."""


class ProcessTransport(Transport):
    """Base of the transports on which each worker is a process, which knows its place before a run."""

    @property
    @abstractmethod
    def rank(self) -> int:
        """This process's number among all."""

    @property
    @abstractmethod
    def local_rank(self) -> int:
        """This process's number among those of its host."""


class Session(ABC):
    """The resources of one run: shared variables, clocks, and what carries messages."""

    native: frozenset[type[Request]]  # communications it performs itself; others are lowered
    unpriced: frozenset[type[Request]] = frozenset()  # performed too, at no cost, while a worker is unmetered
    hosted: bool = True  # its workers share a host's memory, and can hold buffers in common
    grouped: bool = True  # its own collectives take groups; else those of a group are lowered
    hosts: tuple[tuple[int, ...], ...] = ()  # the ranks of each, where collectives are to be hierarchical
    links: Links | None = None  # between hosts, the same on all workers; by them collectives choose their form
    ranks: Sequence[int]  # the workers that live in this process
    memo: Memo | None = None  # of what workers compute alike, where they take turns in one thread

    # --- shared variables --------------------------------------------------------------------------------

    @abstractmethod
    def share(self, rank: int, name: str, like: Buffer) -> Shared:
        """Return the shared variable of that name; the first call makes it from `like`."""

    @abstractmethod
    def store(self, shared: Shared, values: Buffer, version: int = 0) -> None:
        """Set a shared variable and its version, the number of its updates, while no worker runs (on resuming)."""

    @abstractmethod
    def version(self, shared: Shared) -> int:
        """Return how often a shared variable was moved, while no worker runs."""

    @abstractmethod
    def in_common(self, name: str, like: Buffer) -> Buffer:
        """Return the buffer of that name, one for all workers of `hosted` ones, with rank 0's values."""

    @abstractmethod
    def place(self, values: Buffer) -> Buffer:
        """Return a flat copy of a worker's vector where communications reach it better, or the vector itself.

        Every worker calls it, with a vector as large. What is made like the copy (`buffers.like`) is there, too.
        """

    # --- the run -----------------------------------------------------------------------------------------

    @abstractmethod
    def run(self, tasks: Sequence[Task]) -> None:
        """Carry every task to its end, or raise what stopped the first that failed, all others stopped."""

    @abstractmethod
    def join(self, worker: Worker) -> Endpoint:
        """Let a loop that belongs to the user perform this worker's communications; the clock begins."""

    @abstractmethod
    def wrap(self, worker: Worker, requests: Iterator[Request]) -> Iterator[Request]:
        """Return the requests of a worker as the wrappers of a transport change them."""

    @abstractmethod
    def leave(self, error: BaseException | None) -> None:
        """End this process's part of the run, or because of `error`: nothing more is asked of this session."""

    # --- clocks ------------------------------------------------------------------------------------------

    @abstractmethod
    def now(self, rank: int) -> float:
        """Return seconds since the run began on this worker's clock, real or virtual, pauses left out."""

    @abstractmethod
    def clock(self, rank: int) -> Callable[[], float]:
        """Return a cheap clock of this worker, good for differences only."""

    @abstractmethod
    def resume(self, rank: int, seconds: float) -> None:
        """Let this worker's clock begin at `seconds`."""

    @abstractmethod
    def pause(self, rank: int) -> None:
        """Stop this worker's clock, if real: all workers are at a synchronization point."""

    @abstractmethod
    def proceed(self, rank: int) -> None:
        """Let this worker's clock go on."""

    # --- agreement between processes ---------------------------------------------------------------------

    @abstractmethod
    def all_gather_object(self, name: str, mine: Callable[[], Any]) -> Callable[[], list[Any]]:
        """Return a function that gathers what `mine` gives in every process, in rank order.

        mine: gives a value that JSON can hold; called whenever any process gathers under that name.
        """

    @abstractmethod
    def stop_protocol(self, prepare: Callable[[], int], decide: Callable[[int], None]) -> Callable[[], None]:
        """Return a function that begins a common stop, and never waits.

        Every process then calls `prepare`, which gives a step, and all call `decide` with the largest.
        """

    @abstractmethod
    def await_stop(self, decided: Callable[[], bool]) -> None:
        """Block a worker until a stop that has begun is decided; raise if that is in vain."""


class LocalSession(Session):
    """A session whose workers all live in this process, and whose shared variables the core keeps."""

    def store(self, shared: Shared, values: Buffer, version: int = 0) -> None:
        shared.store.store(values, version)

    def version(self, shared: Shared) -> int:
        moves: int = shared.store.version
        return moves

    def in_common(self, name: str, like: Buffer) -> Buffer:
        common: Buffer = buffers.copy_of(like)
        return common

    def place(self, values: Buffer) -> Buffer:
        return values

    def wrap(self, worker: Worker, requests: Iterator[Request]) -> Iterator[Request]:
        return requests

    def leave(self, error: BaseException | None) -> None:
        return

    def all_gather_object(self, name: str, mine: Callable[[], Any]) -> Callable[[], list[Any]]:
        return lambda: [mine()]

    def stop_protocol(self, prepare: Callable[[], int], decide: Callable[[int], None]) -> Callable[[], None]:
        return lambda: decide(prepare())


class ManyWorkersSession(LocalSession):
    """A session of several workers in this process, which has no place for a loop of the user's."""

    def join(self, worker: Worker) -> Endpoint:
        name = type(self).__name__.removesuffix("Session")
        raise TypeError(f"{name} has no place for a loop of your own, which needs a process for each worker")


def spin(decided: Callable[[], bool]) -> None:
    """Block until another thread of this process has decided."""
    while not decided():
        time.sleep(0)


class Endpoint(ABC):
    """One worker's end of a transport in real time: performs requests, blocking with a deadline."""

    rank: int
    doing: Request | None = None  # what the others name when this worker is late

    @property
    @abstractmethod
    def handlers(self) -> dict[type[Request], Callable[..., object]]:
        """Return what performs each type of communication."""

    @abstractmethod
    def check(self) -> None:
        """Raise if another worker has failed: for one that computes and never waits."""


def drive(task: Task, endpoint: Endpoint) -> None:
    """Perform all requests of a worker in real time."""
    handlers: dict[type[Request], Callable[..., object]] = dict(endpoint.handlers)
    handlers.update(dict.fromkeys(Compute.__subclasses__(), task.compute))
    for request in task.requests:
        endpoint.doing = request
        handlers[type(request)](request)


SAYS_WHERE = (WorkerFailed, PeerFailed, TimedOut, Mismatch, Diverged, CheckpointError, Aborted, KeyboardInterrupt)
"""Errors that name the worker or the file themselves."""


def failure(worker: Worker, during: Request | None, cause: BaseException) -> BaseException:
    """Return the error for the caller when `cause` stopped a worker: it names worker, round and request once."""
    if isinstance(cause, SAYS_WHERE):
        return cause
    where = "the start of a round" if during is None else str(during)
    if worker.calling is not None:  # a loop of the user's, which knows of steps
        where = f"step {worker.clock}"
    error = WorkerFailed(worker.rank, worker.round, where, cause)
    error.__cause__ = cause
    return error
