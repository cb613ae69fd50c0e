"""Processes that share a host: collectives and shared variables in memory that they map, messages for the rest."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

from loosestep import _core
from loosestep.foundation.errors import PeerFailed, TimedOut
from loosestep.lowering.hierarchical import LANES
from loosestep.requests import Elastic, Fetch, Push, Shared, Start, Wait
from loosestep.transports import center as centers
from loosestep.transports.mpi.lanes import Lane, calls, mismatch, starts
from loosestep.transports.mpi.liveness import Watch
from loosestep.transports.mpi.session import ProcessEndpoint, ProcessSession

if TYPE_CHECKING:
    from loosestep.lowering.hierarchical import Hosts
    from loosestep.requests import Buffer, Communication, Request
    from loosestep.transports.mpi.wire import Wire

SLICE = 0.1  # seconds in the core between two looks at the others
FIRST_BEAT = 10.0  # seconds for a heartbeat to come from every other host
HEARSAY = 2.0  # seconds for the reason of an abort to come


class MappingSession(ProcessSession):
    """Where some processes share memory: those of this one's host are its group."""

    def __init__(self, wire: Wire, hosts: Hosts, silence: float, deadline: float) -> None:
        self.group = next(host for host in hosts if wire.rank in host)
        self.memories: list[_core.Host | _core.HostLane] = []
        self.hearts: list[_core.Host] = []
        self.mapped: list[_core.HostCenter | _core.HostBuffer] = []
        super().__init__(wire, hosts, silence, deadline)

    def map(self, name: str, size: int, opened: Callable[[str | int, bool], Any]) -> Any:
        """Memory that the first of the group makes and all of it map; once all have, it is nameless."""
        first = self.post.rank == self.group[0]
        descriptor = _core.Host.make(size) if first else -1
        mine = opened(descriptor, True) if first else None
        path = self.surveying(f"{name} at", lambda: f"/proc/{os.getpid()}/fd/{descriptor}")()[self.group[0]]
        mine = mine if first else opened(path, False)
        self.meet(f"{name} mapped")
        if first:
            os.close(descriptor)
        return mine

    def map_host(self, name: str) -> _core.Host:
        """Memory for collectives of the group; the first gives the sign of life."""
        memory: _core.Host = self.map_as(_core.Host, name)
        self.hearts.append(memory)
        return memory

    def map_as(self, kind: type[Any], name: str) -> Any:
        size, mine = len(self.group), self.group.index(self.post.rank)
        memory = self.map(name, _core.Host.needed(size), lambda path, new: kind(path, size, mine, new))
        self.memories.append(memory)
        return memory

    def heard(self, rank: int) -> float:
        """The core's own sign of life goes on where Python does not."""
        if rank not in self.group or not self.hearts:
            return super().heard(rank)
        beat: float = time.monotonic() - self.hearts[0].beat_age(self.group.index(rank))
        return max(super().heard(rank), beat)

    def moved(self) -> int:
        return sum(memory.moved for memory in self.memories)

    def leave(self, error: BaseException | None) -> None:
        if not self.original.here:
            return
        if error is not None:
            for host in self.memories:
                host.abort()
        super().leave(error)
        for memory in (*self.memories, *self.mapped):
            memory.close()


class HostSession(MappingSession):
    """All on one host. Started collectives have memory of their own, in which the core goes on with them."""

    hosted, grouped = True, False

    def __init__(self, wire: Wire, hosts: Hosts, silence: float, deadline: float) -> None:
        super().__init__(wire, hosts, silence, deadline)
        self.map_host("hosting")
        self.lane: _core.HostLane = self.map_as(_core.HostLane, "lane")
        self.endpoint = HostEndpoint(self)
        self.native = frozenset(self.endpoint.handlers)

    def share(self, rank: int, name: str, like: Buffer) -> Shared:
        """The elastic center is one for all, locked by chunks; rank 0's values are the start."""

        def opened(path: str | int, new: bool) -> _core.HostCenter:
            return _core.HostCenter(path, like.size, like.dtype.name, new, like if new else None)

        center = self.map(f"share {name}", _core.HostCenter.needed(like.size, like.dtype.name), opened)
        self.mapped.append(center)
        return Shared(name, like.size, like.dtype, center)

    def store(self, shared: Shared, values: Buffer, version: int = 0) -> None:
        shared.store.store(values, version)

    def version(self, shared: Shared) -> int:
        moves: int = shared.store.version
        return moves

    def in_common(self, name: str, like: Buffer) -> Buffer:
        """Mapped by all until the run is over; then this worker's own, at the same address."""

        def opened(path: str | int, new: bool) -> _core.HostBuffer:
            made = _core.HostBuffer(path, like.size, like.dtype.name, new)
            if new:
                made.array[:] = like.reshape(-1)
            return made

        held = self.map(f"common {name}", _core.HostBuffer.needed(like.size, like.dtype.name), opened)
        self.mapped.append(held)
        common: Buffer = held.array
        return common


class HostsSession(MappingSession):
    """On several hosts: memory within each, messages between them; shared variables are pieces on all workers."""

    def __init__(self, wire: Wire, hosts: Hosts, silence: float, deadline: float) -> None:
        self.pulse = _core.Pulse(wire.rank, wire.size, wire.local)
        self.addresses = ["127.0.0.1"] if wire.local else self.pulse.addresses()
        super().__init__(wire, hosts, silence, deadline)
        self.reach_others()
        if len(hosts) < wire.size:  # all at once: the helper thread looks at them
            self.post.lanes = [Lane(self.map_host(f"lane {number}"), self.group) for number in range(LANES)]

    def reach_others(self) -> None:
        """The heartbeat goes its own way between hosts, so that neither MPI nor Python is asked for it."""
        pulse = self.pulse
        ends = self.surveying("pulse", lambda: [pulse.key.hex(), self.addresses, pulse.port])()
        others = [rank for rank in range(self.size) if rank not in self.group]
        for rank in others:
            key, addresses, port = ends[rank]
            pulse.reach(bytes.fromhex(key), addresses, port)
        until = time.monotonic() + FIRST_BEAT
        self.endpoint.until("its first heartbeats", lambda: self.all_felt(others, ends, until))

    def all_felt(self, others: Sequence[int], ends: Sequence[Any], until: float) -> bool:
        """Whether a beat of each has come; not being let through is an error, now and not after an hour."""
        unfelt = [rank for rank in others if self.pulse.age(rank) == inf]
        if unfelt and time.monotonic() > until:
            words = [f"one of worker {rank} by UDP (it is at {', '.join(ends[rank][1])})" for rank in unfelt]
            raise TimedOut(self.post.rank, "its first heartbeats", words, FIRST_BEAT)
        return not unfelt

    def heard(self, rank: int) -> float:
        """What tells of another host's worker while it holds Python's lock."""
        return max(super().heard(rank), time.monotonic() - self.pulse.age(rank))

    def leave(self, error: BaseException | None) -> None:
        super().leave(error)
        self.pulse.close()  # of a copy: its thread is not there, and nothing is sent


class HostEndpoint(ProcessEndpoint):
    """Collectives and centers by the core: one collective at a time here, those that were started in the lane."""

    session: HostSession

    def __init__(self, session: HostSession) -> None:
        super().__init__(session)
        rank = session.post.rank
        self.collectives = calls(session.hearts[0], session.group, SLICE)
        self.starts = starts(session.lane, session.group)
        self._handlers |= dict.fromkeys(self.collectives, self.collect) | centers.handlers(rank)
        self.begun: dict[Communication, int | None] = {}  # their numbers in the lane; None: it is done

    def start(self, request: Start) -> None:
        asked = request.request
        if type(asked) in self.starts:
            self.begun[asked] = self.starts[type(asked)](asked)
        elif type(asked) in (Fetch, Push, Elastic):
            self._handlers[type(asked)](asked)
            self.begun[asked] = None
        else:
            super().start(request)

    def wait(self, request: Wait) -> None:
        asked = request.request
        if asked not in self.begun:
            super().wait(request)
            return
        number = self.begun.pop(asked)
        if number is not None:
            self.call(request, lambda: self.session.lane.wait(number, SLICE))

    def collect(self, request: Communication) -> None:
        attempt = self.collectives[type(request)]
        self.call(request, lambda: attempt(request))

    def call(self, request: Request, attempt: Callable[[], _core.Said]) -> None:
        """What others take part in, until it is done; who ended it is heard."""
        self.turns += 1
        self.waiting = request
        try:
            said = attempt()
            if said == "waiting":
                said = self.go_on(request, attempt)
        except _core.Mismatch as error:
            raise mismatch(error, self.session.group, self.worker) from error
        finally:
            self.waiting = ""
        if said == "aborted":
            self.hear_why()

    def go_on(self, request: Request, attempt: Callable[[], _core.Said]) -> _core.Said:
        """Others are late: look after them."""
        watch = Watch(self.post, request, self.session.heard, self.session.silence, self.session.deadline)
        said: _core.Said = "waiting"
        while said == "waiting":
            self.post.turn()
            self.session.check()
            watch.look()
            said = attempt()
        return said

    def hear_why(self) -> None:
        """Who ended the collective says so by message."""
        until = time.monotonic() + HEARSAY
        self.until("word of a failure", lambda: time.monotonic() > until, watched=False)
        raise PeerFailed(-1, "without a word")
