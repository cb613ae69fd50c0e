"""Collectives of one host's workers in memory that they map, and slots where started ones are advanced."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from loosestep import _core
from loosestep.foundation.errors import Mismatch
from loosestep.requests import AllGather, AllReduce, Barrier, Broadcast
from loosestep.transports.processes.mailbox import Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from loosestep.lowering.requests import IntraHost
    from loosestep.requests import Communication, Group, Request
    from loosestep.requests.worker import Worker

    Calls = dict[type[Request], Callable[[Any], _core.Said]]


def blocking_calls(host: _core.Host, group: Group, seconds: float) -> Calls:
    """Return the core's collectives by request; each waits for `seconds` at most, and is called again to go on."""
    return {
        AllReduce: lambda request: host.all_reduce(request.buf, request.op, request.weight, seconds),
        AllGather: lambda request: host.all_gather(request.piece, request.out, seconds),
        Broadcast: lambda request: host.broadcast(request.buf, group.index(request.root), seconds),
        Barrier: lambda request: host.barrier(seconds),
    }


def queued_calls(queue: _core.HostLane, group: Group) -> dict[type[Request], Callable[[Any], int]]:
    """Return the same collectives for the background queue; each gives the number to wait for."""
    return {
        AllReduce: lambda request: queue.all_reduce(request.buf, request.op, request.weight),
        AllGather: lambda request: queue.all_gather(request.piece, request.out),
        Broadcast: lambda request: queue.broadcast(request.buf, group.index(request.root)),
        Barrier: lambda request: queue.barrier(),
    }


def mismatch(error: Exception, group: Group, worker: Worker) -> Mismatch:
    """Return the core's error with ranks of the run: the core numbers the workers of its host from 0."""
    words = re.sub(r"\brank (\d+)", lambda found: f"rank {group[int(found[1])]}", str(error))
    return Mismatch(f"{words}, in round {worker.round}")


class CollectiveSlot:
    """Memory for one phase of hierarchical collectives.

    Workers reach a phase at different times, so collectives are numbered, and use the memory in that order.
    """

    def __init__(self, host: _core.Host, group: Group) -> None:
        self.host, self.group = host, group
        self.calls = blocking_calls(host, group, 0.0)
        self.entered: dict[int, tuple[Iterator[None], Operation]] = {}
        self.number = 0  # of the collective that uses the memory

    def enter(self, request: IntraHost, worker: Worker) -> Operation:
        """Let a collective use the memory after all that have lower numbers."""
        operation = Operation(1)
        self.entered[request.number] = self.run(request.requests, worker), operation
        return operation

    def advance(self) -> bool:
        """Go on as far as no worker of the host is late, and return whether a collective has ended."""
        begun = self.number
        while self.number in self.entered:
            steps, operation = self.entered[self.number]
            for _ in steps:
                return self.number > begun
            del self.entered[self.number]
            self.number += 1
            operation.finish_part()
        return self.number > begun

    def run(self, requests: Iterator[Communication], worker: Worker) -> Iterator[None]:
        """Run the requests in order; yield whenever a peer has not arrived yet.

        A peer that has failed says so by message.
        """
        try:
            for request in requests:
                while self.calls[type(request)](request) != "done":
                    yield
        except _core.Mismatch as error:
            raise mismatch(error, self.group, worker) from error


class CollectiveSlots(list[CollectiveSlot]):
    """The slots of all phases."""

    def enter(self, request: IntraHost, worker: Worker) -> Operation:
        """Let a phase of a collective use its slot."""
        return self[request.phase].enter(request, worker)
