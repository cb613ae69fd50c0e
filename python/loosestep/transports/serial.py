"""One worker, in the caller's thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loosestep import ops
from loosestep._core import Center
from loosestep.lowering.requests import RollCall
from loosestep.requests import (
    AllGather,
    AllReduce,
    Barrier,
    Broadcast,
    Buffer,
    Communication,
    Exchange,
    Mix,
    Request,
    Shared,
    Sleep,
    Start,
    Wait,
)
from loosestep.transports import center
from loosestep.transports.base import Endpoint, LocalSession, ProcessTransport, Session, Task, drive, failure, spin
from loosestep.transports.stopwatch import Stopwatch

if TYPE_CHECKING:
    from loosestep.requests.worker import Worker


@dataclass(frozen=True, repr=False)
class Serial(ProcessTransport):
    """One worker and no thread: for stepping through a strategy in a debugger."""

    @property
    def size(self) -> int:
        return 1

    @property
    def rank(self) -> int:
        return 0

    @property
    def local_rank(self) -> int:
        return 0

    def open(self, seed: int = 0) -> Session:
        return SerialSession()


class SerialSession(Stopwatch, LocalSession):
    """One worker alone: no collective waits for anybody."""

    def __init__(self) -> None:
        super().__init__()
        self.ranks = range(1)
        self.variables: dict[str, Shared] = {}
        self.endpoint = SerialEndpoint()
        self.native = frozenset(self.endpoint.handlers)

    def share(self, rank: int, name: str, like: Buffer) -> Shared:
        if name not in self.variables:
            self.variables[name] = Shared(name, like.size, like.dtype, Center(like))
        return self.variables[name]

    def join(self, worker: Worker) -> Endpoint:
        self.begin()
        return self.endpoint

    def await_stop(self, decided: Callable[[], bool]) -> None:
        spin(decided)

    def run(self, tasks: Sequence[Task]) -> None:
        self.begin()
        (task,) = tasks
        try:
            drive(task, self.endpoint)
        except Exception as cause:
            raise failure(task.worker, self.endpoint.doing, cause) from cause


class SerialEndpoint(Endpoint):
    """Performs each communication at once."""

    rank = 0

    def __init__(self) -> None:
        self.started: set[Communication] = set()
        self._handlers: dict[type[Request], Callable[[Any], object]] = {
            Exchange: self.exchange,
            **center.handlers(self.rank),
            AllReduce: lambda request: None,
            AllGather: lambda request: ops.copy(request.piece, request.out),
            Broadcast: lambda request: None,
            Barrier: lambda request: None,
            Mix: self.mix,
            RollCall: lambda request: request.answer.append(request.present),
            Sleep: lambda request: time.sleep(request.seconds),
            Start: lambda request: self.started.add(request.request),
            Wait: self.wait,
        }

    @property
    def handlers(self) -> dict[type[Request], Callable[[Any], object]]:
        return self._handlers

    def check(self) -> None:
        """Do nothing: there is no other worker."""

    def exchange(self, request: Exchange) -> None:
        """Copy messages to oneself at once."""
        for (_, sent), (_, received) in zip(request.sends, request.recvs, strict=True):
            ops.copy(sent, received)

    def wait(self, request: Wait) -> None:
        """Perform now what was started."""
        if request.request not in self.started:
            raise RuntimeError(f"{request} waits for what was not started")
        self.started.remove(request.request)
        self._handlers[type(request.request)](request.request)

    def mix(self, request: Mix) -> None:
        ((_, weight),) = request.weights.row
        if weight != 1.0:
            ops.scale(request.buf, weight)
