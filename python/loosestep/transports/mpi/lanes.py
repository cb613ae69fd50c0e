"""Memory of one host's processes, which started collectives visit one after the other, without anybody waiting."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from loosestep import _core
from loosestep.foundation.errors import Mismatch
from loosestep.requests import AllGather, AllReduce, Barrier, Broadcast
from loosestep.transports.mpi.mailbox import Pending

if TYPE_CHECKING:
    from loosestep.lowering.requests import Hosted
    from loosestep.requests import Communication, Group, Request
    from loosestep.requests.worker import Worker

Calls = dict["type[Request]", Callable[[Any], "_core.Said"]]


def calls(host: _core.Host, group: Group, seconds: float) -> Calls:
    """The core's collectives between the workers of a host; each waits so long at most, and is called again."""
    return {
        AllReduce: lambda request: host.all_reduce(request.buf, request.op, request.weight, seconds),
        AllGather: lambda request: host.all_gather(request.piece, request.out, seconds),
        Broadcast: lambda request: host.broadcast(request.buf, group.index(request.root), seconds),
        Barrier: lambda request: host.barrier(seconds),
    }


def starts(lane: _core.HostLane, group: Group) -> dict[type[Request], Callable[[Any], int]]:
    """The same, begun: each gives the number to wait for."""
    return {
        AllReduce: lambda request: lane.all_reduce(request.buf, request.op, request.weight),
        AllGather: lambda request: lane.all_gather(request.piece, request.out),
        Broadcast: lambda request: lane.broadcast(request.buf, group.index(request.root)),
        Barrier: lambda request: lane.barrier(),
    }


def mismatch(error: Exception, group: Group, worker: Worker) -> Mismatch:
    """The core numbers the workers of its host from 0."""
    words = re.sub(r"\brank (\d+)", lambda found: f"rank {group[int(found[1])]}", str(error))
    return Mismatch(f"{words}, in round {worker.round}")


class Lane:
    """One such memory. Workers reach a visit at different times, so visits are numbered and keep that order."""

    def __init__(self, host: _core.Host, group: Group) -> None:
        self.host, self.group = host, group
        self.calls = calls(host, group, 0.0)
        self.visits: dict[int, tuple[Iterator[None], Pending]] = {}
        self.number = 0  # of the visit under way

    def enter(self, request: Hosted, worker: Worker) -> Pending:
        """It will be made when all before it are over."""
        pending = Pending(1)
        self.visits[request.number] = self.walk(request.requests, worker), pending
        return pending

    def move(self) -> bool:
        """Go on as far as nobody is late; whether a visit ended."""
        begun = self.number
        while self.number in self.visits:
            walk, pending = self.visits[self.number]
            for _ in walk:
                return self.number > begun
            del self.visits[self.number]
            self.number += 1
            pending.part()
        return self.number > begun

    def walk(self, requests: Iterator[Communication], worker: Worker) -> Iterator[None]:
        """Every request in turn; yields where somebody is late (or has failed, which he says by message)."""
        try:
            for request in requests:
                while self.calls[type(request)](request) != "done":
                    yield
        except _core.Mismatch as error:
            raise mismatch(error, self.group, worker) from error
