"""Bytes between processes by ZeroMQ, which is polled by the progress engine: no thread but libzmq's own."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from loosestep.foundation.errors import PeerFailed
from loosestep.transports.processes.launchers import tell_guard
from loosestep.transports.processes.wire import FORMAT, Header, Kind, Wire
from loosestep.transports.zmq.membership import CONTROL, membership
from loosestep.transports.zmq.peers import INLINE, PART

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from loosestep.requests import Buffer
    from loosestep.transports.zmq.membership import Membership
    from loosestep.transports.zmq.place import Place

GRACE = 0.5  # seconds for the last words of a process whose connection is lost
LEFT = int(Kind.LEFT)


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
    """One run's messages, over the connections that this process keeps."""

    def __init__(self, membership: Membership, deadline: float) -> None:
        if membership.inside:
            raise RuntimeError(
                "over ZeroMQ a process takes part in one run at a time: close the one that is open, or start "
                "the job over MPI (mpiexec, or `loosestep run` without --wire), which carries several, as for "
                "several optimizers"
            )
        membership.begin(deadline)
        self.membership, self.peers = membership, membership.peers
        self.rank, self.size = membership.rank, membership.size
        self.hosts, self.local = membership.hosts, membership.local
        self.early = deque(membership.early)
        membership.early.clear()
        self.own: deque[tuple[Header, bytes | None, Buffer | None, Callable[[], None] | None]] = deque()
        self.to_self: deque[tuple[Buffer, Callable[[], None] | None]] = deque()
        self.incoming = [Incoming() for _ in range(self.size)]
        self.left: set[int] = set()  # whose connections may be closed now
        self.come = 0  # parts that have come
        self.gone_before = sum(each.gone for each in self.peers.outgoing.values())

    @classmethod
    def of_this_process(cls, place: Place, key: str | None, deadline: float) -> ZMQChannel:
        """Begin a run in this process; every process of its job calls it."""
        return cls(membership(place, key), deadline)

    # --- sending -----------------------------------------------------------------------------------------

    def send(self, to: int, header: Header, payload: Buffer | None, done: Callable[[], None] | None) -> None:
        content = FORMAT.pack(*header)
        long = payload is not None and payload.nbytes > INLINE
        if payload is not None and not long:
            content += payload.tobytes()
        if to == self.rank:
            self.own.append((header, None if long else content[FORMAT.size :], payload, done))
        else:
            self.peers.outgoing[to].send(content)
        if payload is not None and long:
            if to != self.rank:
                self.peers.outgoing[to].add(memory(payload), done)
        elif done is not None:
            done()

    # --- receiving ---------------------------------------------------------------------------------------

    def receive(self, source: int, into: Buffer, done: Callable[[], None]) -> None:
        if source != self.rank:
            self.incoming[source].waiting.append((memory(into), done))
            return
        payload, sent = self.to_self.popleft()
        into.reshape(-1).view(np.uint8)[:] = payload.reshape(-1).view(np.uint8)
        self.come += 1
        if sent is not None:
            sent()
        done()

    def poll(self) -> Iterator[tuple[int, Header, bytes | None]]:
        while self.early:
            source, content, part = self.early.popleft()
            if content is None:
                self.incoming[source].room()[:] = part
                self.advance(source, len(part))
            else:
                yield from self.message(source, content)
        for source, content, count in self.peers.arrived(lambda source: self.incoming[source].room()):
            if content is None:
                self.advance(source, count)
            else:
                yield from self.message(source, content)
        while self.own:
            header, short, payload, done = self.own.popleft()
            if short is None and payload is not None:
                self.to_self.append((payload, done))
            yield self.rank, header, short
        for outgoing in self.peers.outgoing.values():
            if outgoing.busy:
                outgoing.flush()
        self.look()

    def message(self, source: int, content: bytes) -> Iterator[tuple[int, Header, bytes | None]]:
        """Yield the message if it is one of the run."""
        if content[0] == CONTROL:
            self.membership.note(source, content)
            return
        header = Header._make(FORMAT.unpack_from(content))
        if header.kind == LEFT:
            self.left.add(source)
        short = not header.size or len(content) > FORMAT.size
        yield source, header, content[FORMAT.size :] if short else None

    def advance(self, source: int, count: int) -> None:
        """Note that a part of a payload has come."""
        self.come += 1
        self.incoming[source].advance(count)

    def look(self) -> None:
        """Raise PeerFailed for a process whose connection is lost and that has said nothing before."""
        self.peers.look()
        for rank, since in self.peers.lost.items():
            if rank not in self.left and time.monotonic() - since > GRACE:
                gone = self.membership.gone.get(rank, "without a word (its connection is closed)")
                raise PeerFailed(rank, gone)

    def rest(self, seconds: float) -> None:
        if not self.own:
            self.peers.rest()

    # --- what is known -----------------------------------------------------------------------------------

    @property
    def parts(self) -> int:
        return self.come + sum(each.gone for each in self.peers.outgoing.values()) - self.gone_before

    def last_heard(self, rank: int) -> float:
        return self.peers.heard_at[rank]

    def close(self, *, orderly: bool) -> None:
        for outgoing in self.peers.outgoing.values():
            outgoing.drop()
        self.membership.end_run()

    def end_job(self) -> None:
        tell_guard("abort")
        os._exit(1)


def memory(buffer: Buffer) -> memoryview:
    """Return a buffer's bytes."""
    return memoryview(buffer.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
