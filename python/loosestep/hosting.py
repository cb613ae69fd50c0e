"""Processes of one host: collectives and shared variables in memory that all map, messages for the rest."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from loosestep import _core
from loosestep.errors import Mismatch, PeerFailed
from loosestep.processes import ProcessEndpoint, ProcessSession
from loosestep.requests import Add, AllGather, AllReduce, Barrier, Broadcast, Elastic, Fetch, Shared, Start, Wait
from loosestep.watch import Watch

if TYPE_CHECKING:
    from loosestep.requests import Buffer, Communication, Request
    from loosestep.wire import Wire

SLICE = 0.1  # seconds in the core between two looks at the others
HEARSAY = 2.0  # seconds for the reason of an abort to come


class HostSession(ProcessSession):
    """As ProcessSession; started collectives run at `Wait`, in the order of `Start` on every rank."""

    hosted, grouped = True, False

    def __init__(self, wire: Wire, silence: float, deadline: float) -> None:
        super().__init__(wire, silence, deadline)
        needed = _core.Host.needed(self.size)
        self.host = self.map("hosting", needed, lambda path, new: _core.Host(path, self.size, wire.rank, new))
        self.mapped: list[_core.HostCenter | _core.HostBuffer] = []
        self.endpoint = HostEndpoint(self)
        self.native = frozenset(self.endpoint.handlers)

    def map(self, name: str, size: int, opened: Callable[[str | int, bool], Any]) -> Any:
        """Memory that rank 0 makes and all map; once all have, it is nameless."""
        first = self.post.rank == 0
        descriptor = _core.Host.make(size) if first else -1
        mine = opened(descriptor, True) if first else None
        path = self.surveying(f"{name} at", lambda: f"/proc/{os.getpid()}/fd/{descriptor}")()[0]
        mine = mine if first else opened(path, False)
        self.meet(f"{name} mapped")
        if first:
            os.close(descriptor)
        return mine

    def share(self, rank: int, name: str, like: Buffer) -> Shared:
        """The elastic center is one for all, locked by chunks; rank 0's values are the start."""

        def opened(path: str | int, new: bool) -> _core.HostCenter:
            return _core.HostCenter(path, like.size, like.dtype.name, new, like if new else None)

        center = self.map(f"share {name}", _core.HostCenter.needed(like.size, like.dtype.name), opened)
        self.mapped.append(center)
        return Shared(name, like.size, like.dtype, center)

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

    def store(self, shared: Shared, values: Buffer) -> None:
        shared.store.store(values)

    def heard(self, rank: int) -> float:
        """The core's own sign of life goes on where Python does not."""
        beat: float = time.monotonic() - self.host.beat_age(rank)
        return max(super().heard(rank), beat)

    def leave(self, error: BaseException | None) -> None:
        if error is not None:
            self.host.abort()
        super().leave(error)
        for memory in (self.host, *self.mapped):
            memory.close()


class HostEndpoint(ProcessEndpoint):
    """Collectives and centers by the core, one collective at a time."""

    session: HostSession

    def __init__(self, session: HostSession) -> None:
        super().__init__(session)
        host, rank = session.host, session.post.rank
        self.collectives: dict[type[Request], Callable[[Any], _core.Said]] = {
            AllReduce: lambda request: host.all_reduce(request.buf, request.op, request.weight, SLICE),
            AllGather: lambda request: host.all_gather(request.piece, request.out, SLICE),
            Broadcast: lambda request: host.broadcast(request.buf, request.root, SLICE),
            Barrier: lambda request: host.barrier(SLICE),
        }
        self._handlers |= dict.fromkeys(self.collectives, self.collect) | {
            Fetch: lambda request: request.shared.store.fetch(request.into, rank),
            Add: lambda request: request.shared.store.add(request.delta, rank),
            Elastic: lambda request: request.shared.store.elastic(request.buf, request.rate, rank),
        }
        self.begun: dict[Communication, bool] = {}  # started collectives, in order: is it done

    def start(self, request: Start) -> None:
        asked = request.request
        if type(asked) in self.collectives:
            self.begun[asked] = False
        elif type(asked) in (Fetch, Add, Elastic):
            self._handlers[type(asked)](asked)
            self.begun[asked] = True
        else:
            super().start(request)

    def wait(self, request: Wait) -> None:
        asked = request.request
        if asked not in self.begun:
            super().wait(request)
            return
        self.catch_up(asked)
        del self.begun[asked]

    def catch_up(self, last: Communication | None) -> None:
        """Whatever was started before, and `last`: all ranks in one order."""
        for asked, done in list(self.begun.items()):
            if not done:
                self.call(asked)
                self.begun[asked] = True
            if asked is last:
                return

    def collect(self, request: Communication) -> None:
        self.catch_up(None)
        self.call(request)

    def call(self, request: Communication) -> None:
        attempt = self.collectives[type(request)]
        self.turns += 1
        self.waiting = request
        try:
            said = attempt(request)
            if said == "waiting":
                said = self.go_on(request, attempt)
        except _core.Mismatch as error:
            raise Mismatch(f"{error}, in round {self.worker.round}") from error
        finally:
            self.waiting = ""
        if said == "aborted":
            self.hear_why()

    def go_on(self, request: Communication, attempt: Callable[[Any], _core.Said]) -> _core.Said:
        """Others are late: look after them."""
        watch = Watch(self.post, request, self.session.heard, self.session.silence, self.session.deadline)
        said: _core.Said = "waiting"
        while said == "waiting":
            self.post.turn()
            self.session.check()
            watch.look()
            said = attempt(request)
        return said

    def hear_why(self) -> None:
        """Who ended the collective says so by message."""
        until = time.monotonic() + HEARSAY
        self.until("word of a failure", lambda: time.monotonic() > until, watched=False)
        raise PeerFailed(-1, "without a word")
