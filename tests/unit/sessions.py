"""A session that notes what it is asked for, for what stands on top of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.unit.clock import Clock

from loosestep._core import Center
from loosestep.lowering.requests import RollCall
from loosestep.requests import (
    AllReduce,
    Barrier,
    Broadcast,
    Buffer,
    Fetch,
    Push,
    Request,
    Shared,
    Sleep,
    Start,
    Wait,
)
from loosestep.requests.worker import Worker
from loosestep.transports import center
from loosestep.transports.base import Endpoint, LocalSession, Session, Task, Transport, drive, spin


class FakeSession(LocalSession):
    """One worker of several. The others are whoever `answer` says: what a collective gives, what a survey says."""

    native = frozenset({AllReduce, Barrier, Broadcast, Fetch, Push, RollCall, Sleep, Start, Wait})

    def __init__(self, size: int = 1, rank: int = 0, clock: Clock | None = None) -> None:
        self.size, self.ranks = size, (rank,)
        self.time = clock or Clock(0.0)
        self.log: list[Any] = []
        self.variables: dict[str, Shared] = {}
        self.reduce: Callable[[AllReduce], None] = lambda request: None  # what the others add to it
        self.surveys: dict[str, Callable[[Any], list[Any]]] = {}  # by topic: what all say, from what this one says
        self.present = False  # whether another worker has data
        self.endpoint = FakeEndpoint(self, rank)

    def share(self, rank: int, name: str, like: Buffer) -> Shared:
        if name not in self.variables:
            self.variables[name] = Shared(name, like.size, like.dtype, Center(like))
        return self.variables[name]

    def now(self, rank: int) -> float:
        return self.time.now

    def clock(self, rank: int) -> Callable[[], float]:
        return self.time

    def run(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            drive(task, self.endpoint)

    def join(self, worker: Worker) -> Endpoint:
        self.log.append("join")
        return self.endpoint

    def resume(self, rank: int, seconds: float) -> None:
        self.log.append(("resume", rank, seconds))
        self.time.now = seconds

    def pause(self, rank: int) -> None:
        self.log.append("pause")

    def proceed(self, rank: int) -> None:
        self.log.append("proceed")

    def leave(self, error: BaseException | None) -> None:
        self.log.append(("leave", error))

    def all_gather_object(self, name: str, mine: Callable[[], Any]) -> Callable[[], list[Any]]:
        said = self.surveys.get(name.rstrip(" 0123456789"), lambda mine: [mine])
        return lambda: said(mine())

    def await_stop(self, decided: Callable[[], bool]) -> None:
        spin(decided)


class FakeEndpoint(Endpoint):
    """Performs each communication at once, and notes it."""

    def __init__(self, session: FakeSession, rank: int) -> None:
        self.session, self.rank = session, rank
        self.performed: list[Request] = []
        self.failed: BaseException | None = None  # that another worker has failed

    def check(self) -> None:
        if self.failed is not None:
            raise self.failed

    @property
    def handlers(self) -> dict[type[Request], Callable[[Any], object]]:
        performing = {
            **center.handlers(0),
            AllReduce: self.session.reduce,
            Sleep: lambda request: self.session.time.sleep(request.seconds),
            RollCall: lambda request: request.answer.append(request.present or self.session.present),
        }
        return {kind: self.noting(performing.get(kind)) for kind in self.session.native}

    def noting(self, perform: Callable[[Any], object] | None) -> Callable[[Any], object]:
        def performed(request: Any) -> None:
            self.performed.append(request)
            if perform is not None:
                perform(request)

        return performed


class Fake(Transport):
    """Opens the session that it was given."""

    def __init__(self, session: FakeSession) -> None:
        object.__setattr__(self, "session", session)

    @property
    def size(self) -> int:
        return self.session.size

    def open(self, seed: int = 0) -> Session:
        return self.session

    def __repr__(self) -> str:
        return "Fake()"


def scripted(*requests: Request) -> Iterator[Request]:
    yield from requests
