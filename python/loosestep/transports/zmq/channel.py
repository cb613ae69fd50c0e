"""Bytes between processes by ZeroMQ, which is polled by the progress engine: no thread but libzmq's own."""

from __future__ import annotations

import os
import time
from collections import deque
from functools import partial
from struct import Struct
from typing import TYPE_CHECKING

import numpy as np

from loosestep.foundation.errors import PeerFailed
from loosestep.transports.processes.launchers import tell_guard
from loosestep.transports.processes.wire import FORMAT, Header, Kind, Wire
from loosestep.transports.zmq.membership import membership
from loosestep.transports.zmq.peers import INLINE, MARK, PART, YIELD, Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from loosestep.requests import Buffer
    from loosestep.transports.zmq.membership import Membership
    from loosestep.transports.zmq.place import Place

LONG = 3e-4  # seconds: after a longer yield a stranger has had the core
CROWDED = 100  # pauses after it in which the worker sleeps
GRACE = 0.5  # seconds for the last words of a process whose connection is lost
LEFT = int(Kind.LEFT)
ENVELOPE = Struct(MARK.format + FORMAT.format.removeprefix("<"))
"""The mark of the run, then the header."""


class Incoming:
    """Where parts of payloads from one process are to be written, in order."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[memoryview, Callable[[], None]]] = deque()
        self.filled = 0  # bytes of the first

    def room(self) -> memoryview:
        """Return the memory for the next part."""
        return self.waiting[0][0][self.filled : self.filled + PART]

    def advance(self, count: int) -> None:
        """Note that a part of so many bytes is there."""
        whole, done = self.waiting[0]
        if count != min(PART, len(whole) - self.filled):
            raise RuntimeError(f"a part of {count} bytes came where {len(whole) - self.filled} are left")
        self.filled += count
        if self.filled == len(whole):
            self.waiting.popleft()
            self.filled = 0
            done()


class ZMQChannel(Wire):
    """One run's messages, over the connections that this process keeps for all of its runs."""

    def __init__(self, membership: Membership, deadline: float) -> None:
        self.mark = membership.begin(deadline)
        (self.number,) = MARK.unpack(self.mark)
        self.membership, self.peers, self.runs = membership, membership.peers, membership.table
        self.rank, self.size = membership.rank, membership.size
        self.hosts, self.local = membership.hosts, membership.local
        self.own: deque[tuple[Header, bytes | None, Buffer | None, Callable[[], None] | None]] = deque()
        self.to_self: deque[tuple[Buffer, Callable[[], None] | None]] = deque()
        self.outgoing = {rank: Outgoing(socket, self.mark) for rank, socket in self.peers.ways.items()}
        self.unsent: dict[int, Outgoing] = {}  # of which something has not gone
        self.incoming = [Incoming() for _ in range(self.size)]
        self.left: set[int] = set()  # whose connections may be closed now
        self.come = 0  # parts that have come
        self.expected = 0  # payloads that are on their way here
        self.crowded = 0  # pauses in which to sleep, since others compute on this core

    @classmethod
    def of_this_process(cls, place: Place, key: str | None, deadline: float) -> ZMQChannel:
        """Begin a run in this process; every process of its job calls it."""
        return cls(membership(place, key), deadline)

    # --- sending -----------------------------------------------------------------------------------------

    def send(self, to: int, header: Header, payload: Buffer | None, done: Callable[[], None] | None) -> None:
        short = payload is None or payload.nbytes <= INLINE
        if to == self.rank:
            content = b"" if payload is None else payload.tobytes() if short else None
            self.own.append((header, content, payload, done))
        else:
            content = ENVELOPE.pack(self.number, *header)
            if payload is not None and short:
                content += payload.tobytes()
            outgoing = self.outgoing[to]
            with self.runs.lock:
                outgoing.send(content)
                if payload is not None and not short:
                    outgoing.add(memory(payload), done)
                if outgoing.busy:
                    self.unsent[to] = outgoing
        if short and done is not None:
            done()

    # --- receiving ---------------------------------------------------------------------------------------

    def receive(self, source: int, into: Buffer, done: Callable[[], None]) -> None:
        if source != self.rank:
            self.expected += 1
            self.incoming[source].waiting.append((memory(into), partial(self.finish, done)))
            return
        payload, sent = self.to_self.popleft()
        into.reshape(-1).view(np.uint8)[:] = payload.reshape(-1).view(np.uint8)
        self.come += 1
        if sent is not None:
            sent()
        done()

    def poll(self) -> Iterator[tuple[int, Header, bytes | None]]:
        while (arrival := self.runs.take(self.mark, self.room)) is not None:
            source, _, message, part = arrival
            if message is None:
                self.advance(source, part)
                continue
            _, *fields = ENVELOPE.unpack_from(message)
            header = Header._make(fields)
            if header.kind == LEFT:
                self.left.add(source)
            short = not header.size or len(message) > ENVELOPE.size
            yield source, header, message[ENVELOPE.size :] if short else None
        while self.own:
            header, content, payload, done = self.own.popleft()
            if content is None and payload is not None:
                self.to_self.append((payload, done))
            yield self.rank, header, content
        if self.unsent:
            self.flush()
        self.look()

    def room(self, source: int) -> memoryview:
        """Return the memory for the next part of a payload."""
        return self.incoming[source].room()

    def advance(self, source: int, part: bytes | int) -> None:
        """Note that a part has come: so many bytes in their place, or bytes that another run's thread has read."""
        if isinstance(part, bytes):
            self.room(source)[:] = part
            part = len(part)
        self.come += 1
        self.incoming[source].advance(part)

    def finish(self, done: Callable[[], None]) -> None:
        """Note that a payload is whole."""
        self.expected -= 1
        done()

    def flush(self) -> None:
        """Send what found no room."""
        unsent, self.unsent = self.unsent, {}
        with self.runs.lock:
            for rank, outgoing in unsent.items():
                outgoing.flush()
                if outgoing.busy:
                    self.unsent[rank] = outgoing

    def look(self) -> None:
        """Raise PeerFailed for a process whose connection is lost and that has said nothing before."""
        self.membership.look()
        for rank, since in self.peers.lost.items():
            if rank not in self.left and time.monotonic() - since > GRACE:
                gone = self.membership.gone.get(rank, "without a word (its connection is closed)")
                raise PeerFailed(rank, gone)

    def pause(self) -> None:
        """Let libzmq's thread, which has the news, have this core.

        To yield is quickest where no others compute; among strangers it costs milliseconds, while a thread that
        sleeps is woken at once. It also sleeps while a long payload comes, which keeps libzmq's thread busy.
        """
        if self.expected or self.crowded:
            self.crowded = max(0, self.crowded - 1)
            self.rest(0.0)
            return
        began = time.monotonic()
        YIELD()
        if time.monotonic() - began > LONG:
            self.crowded = CROWDED

    def rest(self, seconds: float) -> None:
        if not self.own:
            blocked = [rank for rank, outgoing in self.unsent.items() if outgoing.blocked]
            self.runs.rest(self.mark, blocked)

    # --- what is known -----------------------------------------------------------------------------------

    @property
    def parts(self) -> int:
        return self.come + sum(each.gone for each in self.outgoing.values())

    def last_heard(self, rank: int) -> float:
        return self.peers.heard_at[rank]

    def close(self, *, orderly: bool) -> None:
        with self.runs.lock:
            for outgoing in self.outgoing.values():
                outgoing.drop()
        self.membership.end_run(self.mark)

    def end_job(self) -> None:
        tell_guard("abort")
        os._exit(1)


def memory(buffer: Buffer) -> memoryview:
    """Return a buffer's bytes."""
    return memoryview(buffer.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
