"""Shared variables in shards, one with each worker, on the virtual clock: when what is asked of them is done.

As between real processes: a read asks every owner for its shard, and changes of one worker to one shard wait for
each other. An owner that computes serves others in its progress thread's next turn. Values are read when the last
owner is asked, and changed when the last one is reached.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from loosestep.lowering.collectives import bounds
from loosestep.transports import center

if TYPE_CHECKING:
    from loosestep.requests import Fetch, Push
    from loosestep.transports.simulated.network import Network

At: TypeAlias = "Callable[[float, int, Callable[[], None]], None]"
Line: TypeAlias = "tuple[int, int, str]"  # worker, owner, variable


@dataclass
class Parts:
    """A request in flight, in so many parts; `done` is called when none is left."""

    left: int
    done: Callable[[], None]

    def finish(self) -> None:
        """Count one part as done."""
        self.left -= 1
        if not self.left:
            self.done()


@dataclass
class Change:
    """What a worker pushes to one owner."""

    nbytes: float
    together: int
    sent: Callable[[], None]
    served: Callable[[], None]
    acknowledged: Callable[[], None]


class Shards:
    """The shards of all workers. at: lets something happen at a time; turn: how long an owner takes to look up."""

    def __init__(self, network: Network, at: At, now: Callable[[], float], turn: Callable[[int], float]) -> None:
        self.network, self.at, self.now, self.turn = network, at, now, turn
        self.lines: dict[Line, deque[Change]] = defaultdict(deque)
        self.unacknowledged = 0
        self.idle: list[Callable[[], None]] = []  # what waits until all is acknowledged

    def parts(self, worker: int, values: int, nbytes: float) -> list[tuple[int, float]]:
        """Return (owner, bytes of its shard) of every other worker that has one."""
        size, edges = self.network.size, bounds(values, self.network.size)
        owners = [(worker + hop) % size for hop in range(1, size)]
        counts = [(owner, edges[owner + 1] - edges[owner]) for owner in owners]
        return [(owner, nbytes * count / values) for owner, count in counts if count]

    def serve(self, owner: int, what: Callable[[], None]) -> Callable[[], None]:
        """Return what asks an owner, who has its turn first if it computes."""

        def asked() -> None:
            turn = self.turn(owner)
            if turn:
                self.at(self.now() + turn, -1, what)
            else:
                what()

        return asked

    def fetch(self, rank: int, request: Fetch, go_on: Callable[[float], None]) -> float | None:
        """Ask every owner; return now if there is no other, else let `go_on` have the time when all is there."""
        parts = self.parts(rank, request.into.size, request.into.nbytes)
        if not parts:
            center.read(request)
            return self.now()
        arrived, came = self.now(), 0.0

        def read() -> None:
            center.read(request)
            go_on(arrived + self.network.received(len(parts), came))

        waiting = Parts(len(parts), read)

        def answer(owner: int, nbytes: float) -> None:
            nonlocal arrived, came
            _, there = self.network.send(owner, rank, nbytes, self.now())
            arrived, came = max(arrived, there), came + nbytes
            waiting.finish()

        for owner, nbytes in parts:
            _, there = self.network.send(rank, owner, 0, self.now(), len(parts))
            self.at(there, -1, self.serve(owner, partial(answer, owner, nbytes)))
        return None

    def push(self, rank: int, request: Push, go_on: Callable[[float], None]) -> float | None:
        """Send a change to every owner; return now if all are on their way, else let `go_on` have the time."""
        first = request.shared[0]
        parts = self.parts(rank, first.size, request.nbytes)
        if not parts:
            center.move(request, request.values)
            return self.now()
        values = tuple(each.copy() for each in request.values)
        served = Parts(len(parts), lambda: center.move(request, values))
        waits = Parts(0, lambda: go_on(self.now()))
        for owner, nbytes in parts:
            key = rank, owner, first.name
            line = self.lines[key]
            ends = noop, noop
            if request.arrived:
                ends = noop, waits.finish
            elif line:
                ends = waits.finish, noop
            waits.left += bool(request.arrived or line)
            self.unacknowledged += 1
            line.append(Change(nbytes, len(parts), ends[0], served.finish, ends[1]))
            if len(line) == 1:
                self.send_change(key)
        return None if waits.left else max(self.now(), self.network.injected(rank))

    def send_change(self, key: Line) -> None:
        """Send the first change of a line, where it stays until it is acknowledged."""
        change = self.lines[key][0]
        rank, owner, _ = key
        _, there = self.network.send(rank, owner, change.nbytes, self.now(), change.together)

        def serve() -> None:
            change.served()
            _, back = self.network.send(owner, rank, 0, self.now())
            self.at(back, -1, lambda: self.acknowledge(key))

        self.at(there + self.network.received(1, change.nbytes), -1, self.serve(owner, serve))
        change.sent()

    def acknowledge(self, key: Line) -> None:
        """Complete the change that was sent, and send the next one of its line."""
        line = self.lines[key]
        line[0].acknowledged()
        line.popleft()
        self.network.center_in = max(self.network.center_in, self.now())
        self.unacknowledged -= 1
        if line:
            self.send_change(key)
        if not self.unacknowledged:
            waiting, self.idle = self.idle, []
            for each in waiting:
                each()

    def when_idle(self, call: Callable[[], None]) -> None:
        """Call when every change is acknowledged; at once if all are."""
        if self.unacknowledged:
            self.idle.append(call)
        else:
            call()


def noop() -> None:
    """Do nothing, as a completion callback."""
