"""Processes that are none: each has the parts of one, on a `Net`, and is moved on by the test's own thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tests.unit.values import worker
from tests.unit.wire import Net

from loosestep.foundation.errors import PeerFailed
from loosestep.lowering.lowering import Lowering
from loosestep.lowering.requests import RollCall, Script
from loosestep.requests import Communication, Exchange, Fetch, Push
from loosestep.transports.continuation import Continuation
from loosestep.transports.forks import Original
from loosestep.transports.processes.attendance import Attendance
from loosestep.transports.processes.departures import Departures
from loosestep.transports.processes.liveness import FailureDetector
from loosestep.transports.processes.mailbox import Mailbox
from loosestep.transports.processes.progress import BlockingCalls, ProgressEngine
from loosestep.transports.processes.queries import Queries
from loosestep.transports.processes.shards import Shards

NATIVE: Any = frozenset({Exchange, Fetch, Push, RollCall, Script})


class Node:
    """One of them. Its progress thread is not started."""

    def __init__(self, net: Net, rank: int, heartbeat_timeout: float = 10.0, deadline: float = 100.0) -> None:
        self.net, self.rank = net, rank
        self.worker = worker(rank, net.size)
        self.mailbox = Mailbox(net.ends[rank])
        self.queries, self.departures = Queries(self.mailbox), Departures(self.mailbox)
        self.attendance, self.shards = Attendance(self.mailbox), Shards(self.mailbox)
        parts: Sequence[Any] = (self.mailbox, self.shards, self.attendance)
        arrivals: Any = {**self.queries.arrivals, **self.departures.arrivals}
        operations: Any = {}
        for part in parts:
            arrivals |= part.arrivals
            operations |= part.operations
        self.engine = ProgressEngine(self.mailbox, arrivals, operations, (), self.departures, self.give_up)
        wire = self.mailbox.wire
        self.detector = FailureDetector(
            self.queries, [wire.last_heard], heartbeat_timeout, deadline, clock=net.clock.monotonic
        )
        self.calls = BlockingCalls(self.engine, self.queries, self.departures, self.detector, Original())
        self.calls.serve(self.worker)
        self.shards.open(self.calls)
        self.lowering = Lowering(NATIVE, self.worker)
        self.queries.answer("state", lambda _: self.state)
        self.state: dict[str, Any] = waiting()

    def give_up(self, words: str) -> None:
        raise PeerFailed(-1, words)

    def start(self, request: Communication) -> Continuation:
        """Begin a request, lowered where it must be, beside whatever else goes on."""
        (lowered, *more) = self.lowering.lower([request]) if type(request) in NATIVE else (self.script(request),)
        assert not more
        return self.engine.start(lowered, self.worker)  # type: ignore[arg-type]

    def script(self, request: Communication) -> Script:
        return Script(request, self.lowering.lower([request]))  # type: ignore[arg-type]


def waiting(**values: Any) -> dict[str, Any]:
    """How a worker that waits says it is."""
    plain = {"round": 0, "doing": "Barrier()", "waiting": "Barrier()", "sent": 0, "received": 0}
    return {**plain, "progress": [0], "line": "", "stacks": "", **values}


def nodes(size: int, seed: int = 0, **how: Any) -> list[Node]:
    net = Net(size, seed, how.pop("inline", 64))
    return [Node(net, rank, **how) for rank in range(size)]


def turn(all_: Sequence[Node], times: int = 1) -> None:
    """Let every one of them make progress, in a drawn order."""
    for _ in range(times):
        order = [node for node in all_ if node.rank not in node.net.gone]
        all_[0].net.random.shuffle(order)
        for node in order:
            node.engine.progress()


def until(all_: Sequence[Node], ready: Callable[[], bool], most: int = 500) -> None:
    """Turn until something is so."""
    for _ in range(most):
        if ready():
            return
        turn(all_)
    raise AssertionError(f"nothing came of it in {most} turns")


def finish(all_: Sequence[Node], started: Sequence[Continuation]) -> None:
    """Turn until all that was started is done; raise what one of them ended with."""
    until(all_, lambda: all(each.done is not None for each in started))
    for each in started:
        if each.error is not None:
            raise each.error


def share(all_: Sequence[Node], name: str, values: Any) -> Any:
    """The same variable on all, as rank 0 has it."""
    made = [node.shards.make(name, np.array(values)) for node in all_]
    return made[0]
