"""A transport around another: the base of `Metered`, `Delayed` and `Failing`, and of their sessions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from loosestep.foundation import checks
from loosestep.transports.base import Session, Task, Transport

if TYPE_CHECKING:
    from loosestep.requests import Buffer, Request, Shared
    from loosestep.requests.worker import Worker
    from loosestep.transports.base import Endpoint


class Wrapper(Transport):
    """Base of the transports that change how another one, their first field, carries requests."""

    on: Transport

    def __post_init__(self) -> None:
        checks.instance("on", self.on, Transport)

    @property
    def size(self) -> int:
        return self.on.size

    @property
    def virtual(self) -> bool:  # type: ignore[override]
        return self.on.virtual


class WrappedSession(Session):
    """Base of their sessions: passes everything on to `inner`, and rewrites requests as they pass."""

    def __init__(self, inner: Session) -> None:
        self.inner = inner
        self.native, self.unpriced, self.ranks = inner.native, inner.unpriced, inner.ranks
        self.grouped, self.hosted, self.hosts = inner.grouped, inner.hosted, inner.hosts
        self.links, self.memo = inner.links, inner.memo

    @abstractmethod
    def rewrite(self, worker: Worker, requests: Iterator[Request]) -> Iterator[Request]:
        """Yield the requests of one worker, changed."""

    def wrap(self, worker: Worker, requests: Iterator[Request]) -> Iterator[Request]:
        return self.inner.wrap(worker, self.rewrite(worker, requests))

    def share(self, rank: int, name: str, like: Buffer) -> Shared:
        return self.inner.share(rank, name, like)

    def store(self, shared: Shared, values: Buffer, version: int = 0) -> None:
        self.inner.store(shared, values, version)

    def version(self, shared: Shared) -> int:
        return self.inner.version(shared)

    def in_common(self, name: str, like: Buffer) -> Buffer:
        return self.inner.in_common(name, like)

    def place(self, values: Buffer) -> Buffer:
        return self.inner.place(values)

    def now(self, rank: int) -> float:
        return self.inner.now(rank)

    def clock(self, rank: int) -> Callable[[], float]:
        return self.inner.clock(rank)

    def run(self, tasks: Sequence[Task]) -> None:
        self.inner.run(tasks)

    def join(self, worker: Worker) -> Endpoint:
        return self.inner.join(worker)

    def resume(self, rank: int, seconds: float) -> None:
        self.inner.resume(rank, seconds)

    def pause(self, rank: int) -> None:
        self.inner.pause(rank)

    def proceed(self, rank: int) -> None:
        self.inner.proceed(rank)

    def all_gather_object(self, name: str, mine: Callable[[], Any]) -> Callable[[], list[Any]]:
        return self.inner.all_gather_object(name, mine)

    def stop_protocol(self, prepare: Callable[[], int], decide: Callable[[int], None]) -> Callable[[], None]:
        return self.inner.stop_protocol(prepare, decide)

    def await_stop(self, decided: Callable[[], bool]) -> None:
        self.inner.await_stop(decided)

    def leave(self, error: BaseException | None) -> None:
        self.inner.leave(error)
