"""Collectives and shared variables where all processes are on one host: in memory that all of them map."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from loosestep import _core
from loosestep.lowering.host_forms import Forms
from loosestep.requests import AllGather, AllReduce, Barrier, Broadcast, Shared
from loosestep.transports import center
from loosestep.transports.processes.collective_slots import blocking_calls, mismatch, queued_calls
from loosestep.transports.processes.components import Centers, Collectives
from loosestep.transports.processes.hosts import cores_for
from loosestep.transports.processes.mapping import Memories, map_collectives, map_memory, place

if TYPE_CHECKING:
    from loosestep.requests import Buffer, Communication, Group, Request
    from loosestep.transports.processes.components import Background, Handlers
    from loosestep.transports.processes.mailbox import Arrivals, Operations
    from loosestep.transports.processes.progress import BlockingCalls

SLICE = 0.1  # seconds in the core between two looks at the other workers
COLLECTIVES: tuple[type[Request], ...] = (AllReduce, AllGather, Broadcast, Barrier)


class HostMemory(Collectives):
    """Collectives by the core, one at a time; started ones go on in a background queue with memory of its own."""

    hosted, grouped = True, False

    def __init__(self, group: Group) -> None:
        self.group = group
        self.operations: Operations = {}
        self.slots = ()
        self.memories = Memories(group)

    def open(self, calls: BlockingCalls) -> None:
        """Map the memory of blocking collectives, and that of started ones."""
        self.calls = calls
        host = map_collectives(calls, self.group, _core.Host, "collectives")
        self.memories.hosts.append(host)
        self.queue: _core.HostLane = map_collectives(calls, self.group, _core.HostLane, "background queue")
        self.memories.queues.append(self.queue)
        self.blocking = blocking_calls(host, self.group, SLICE)
        self.queued = queued_calls(self.queue, self.group)
        self.memories.spins = cores_for(calls, self.group) >= len(self.group)
        self.memories.use(Forms())

    def place(self, values: Buffer) -> Buffer:
        """Return a flat copy of a vector in memory that all ranks map, if it is large; else the vector itself."""
        return place(self.calls, self.memories, values, self.perform)

    @property
    def handlers(self) -> Handlers:
        """Return what performs collectives: calls of the core, repeated until they are done."""
        return dict.fromkeys(COLLECTIVES, self.perform)

    @property
    def background(self) -> Background:
        """Return what starts collectives: the background queue."""
        return dict.fromkeys(COLLECTIVES, self.start)

    def perform(self, request: Communication) -> None:
        """Carry out a collective."""
        attempt = self.blocking[type(request)]
        self.call(request, lambda: attempt(request))

    def start(self, request: Communication) -> Callable[[Request], None]:
        """Queue a collective, and return what waits for it."""
        number, queue = self.queued[type(request)](request), self.queue
        return lambda wait: self.call(wait, lambda: queue.wait(number, SLICE))

    def call(self, request: Request, attempt: Callable[[], _core.Said]) -> None:
        """Call the core until it is done: once, unless another worker is late."""
        calls = self.calls
        calls.waits += 1
        calls.waiting = request
        try:
            said = attempt()
            if said != "done":
                calls.retry(request, attempt, said)
        except _core.Mismatch as error:
            raise mismatch(error, self.group, calls.worker) from error
        finally:
            calls.waiting = ""


class HostCenter(Centers):
    """Shared variables and common buffers that every process maps: locked by chunks, moved without a message."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.operations: Operations = {}
        self.arrivals: Arrivals = {}
        self.mapped: list[_core.HostCenter | _core.HostBuffer] = []

    def open(self, calls: BlockingCalls) -> None:
        """Map nothing yet: variables are made when they are shared."""
        self.calls = calls

    @property
    def handlers(self) -> Handlers:
        """Return what performs requests: all in memory, at once."""
        return center.handlers(self.calls.rank)

    @property
    def background(self) -> Background:
        """Return what starts requests: they are done at once, too."""
        return {kind: partial(start_at_once, handler) for kind, handler in self.handlers.items()}

    def share(self, name: str, like: Buffer) -> Shared:
        """Map a center, one for all; rank 0's values are the start."""
        dtype = like.dtype.name

        def opened(path: str | int, new: bool) -> _core.HostCenter:
            return _core.HostCenter(path, like.size, dtype, new, like if new else None)

        size = _core.HostCenter.needed(like.size, dtype)
        store = map_memory(self.calls, self.group, f"share {name}", size, opened)
        self.mapped.append(store)
        return Shared(name, like.size, like.dtype, store)

    def store(self, shared: Shared, values: Buffer, version: int) -> None:
        """Set the center."""
        shared.store.store(values, version)

    def version(self, shared: Shared) -> int:
        """Return how often the center was moved."""
        moves: int = shared.store.version
        return moves

    def in_common(self, name: str, like: Buffer) -> Buffer:
        """Map a buffer until the run is over; then it is this worker's own, at the same address."""

        def opened(path: str | int, new: bool) -> _core.HostBuffer:
            made = _core.HostBuffer(path, like.size, like.dtype.name, new)
            if new:
                made.array[:] = like.reshape(-1)
            return made

        size = _core.HostBuffer.needed(like.size, like.dtype.name)
        held = map_memory(self.calls, self.group, f"common {name}", size, opened)
        self.mapped.append(held)
        common: Buffer = held.array
        return common

    def close(self) -> None:
        """Give the centers back, and make every common buffer this worker's own."""
        for memory in self.mapped:
            memory.close()


def start_at_once(handler: Callable[[Any], object], request: Communication) -> Callable[[Request], None]:
    """Perform a request when it is started, and return what waits for it."""
    handler(request)
    return lambda wait: None
