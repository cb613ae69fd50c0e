"""Bytes between processes by nonblocking MPI.

MPI does not detect errors: it returns wrong sums for unequal sizes and waits forever for a process that
raised. Here every message says what it is, and a worker that waits asks those that are late how they are.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from loosestep.foundation.errors import PeerFailed
from loosestep.transports.processes.hosts import SIZE, grouped, marks
from loosestep.transports.processes.wire import FORMAT, Header, Wire

if TYPE_CHECKING:
    from loosestep.lowering.hierarchical import Hosts
    from loosestep.requests import Buffer
    from loosestep.transports.mpi.membership import Membership

HEADERS, PAYLOADS = 1, 2  # MPI tags
NO_RANK = -1
INLINE = 4096  # bytes: shorter payloads travel with their header
NEAR_CHUNK = 4 << 20  # bytes: longer payloads are cut so within a host, so that progress can be seen
FAR_CHUNK = 48 << 10  # ... and so between hosts: Open MPI asks before it sends longer parts; answers then wait
# behind what goes the same way, so that one direction of the link stands idle (a sum takes twice as long)
IN_FLIGHT = 64  # parts on their way to or from one process at once: MPI is slow with thousands


class Flow:
    """Parts of payloads that go to one process, or come from it, in order, and not too many at a time."""

    def __init__(self, begin: Callable[[Any], None], chunk: int) -> None:
        self.begin, self.chunk = begin, chunk
        self.waiting: deque[tuple[Buffer, Callable[[], None] | None]] = deque()
        self.in_flight = 0

    def add(self, payload: Buffer, done: Callable[[], None] | None) -> None:
        """Queue the parts of a payload. MPI keeps the order between two processes, so they need no number."""
        whole = payload.reshape(-1).view(np.uint8)
        last = (whole.size - 1) // self.chunk * self.chunk
        for low in range(0, whole.size, self.chunk):
            self.waiting.append((whole[low : low + self.chunk], done if low == last else None))
        self.fill()

    def fill(self) -> None:
        """Begin as many parts as may be in flight."""
        while self.waiting and self.in_flight < IN_FLIGHT:
            self.in_flight += 1
            self.begin(self.waiting.popleft())


class MPIChannel(Wire):
    """A header by nonblocking MPI, and a longer payload in parts behind it."""

    def __init__(self, membership: Membership, deadline: float) -> None:
        membership.begin(deadline)
        self.membership, self.binding = membership, membership.binding
        self.comm = membership.own(deadline)
        self.comm.Set_errhandler(self.binding.ERRORS_RETURN)
        self.rank, self.size = membership.rank, membership.size
        self.hosts, self.local = self.find_hosts(deadline)
        self.requests: list[Any] = []
        self.ends: list[tuple[Flow | None, int, Any]] = []  # (flow of the part, rank that is alive, the part)
        self.outgoing = [self.flow(rank, NO_RANK, self.comm.Isend) for rank in range(self.size)]
        self.incoming = [self.flow(rank, rank, self.comm.Irecv) for rank in range(self.size)]
        self.heard_at = [time.monotonic()] * self.size
        self.status = self.binding.Status()
        self.done_parts = 0

    def find_hosts(self, deadline: float) -> tuple[Hosts, bool]:
        """Return which ranks can map each other's memory, and whether all are on one machine and network."""
        found = np.zeros((self.size, 2 * SIZE), np.uint8)
        mine = np.frombuffer(b"".join(marks()), np.uint8)
        self.membership.finish(self.comm.Iallgather(mine, found), deadline)
        return grouped([(row[:SIZE].tobytes(), row[SIZE:].tobytes()) for row in found])

    def flow(self, peer: int, sign_of: int, begin: Callable[[Any, int, int], Any]) -> Flow:
        """Return the flow of payloads in one direction between this process and another."""
        near = any(self.rank in host and peer in host for host in self.hosts)

        def track(part: tuple[Buffer, Callable[[], None] | None]) -> None:
            self.requests.append(begin([part[0], self.binding.BYTE], peer, PAYLOADS))
            self.ends.append((flow, sign_of, part))

        flow = Flow(track, NEAR_CHUNK if near else FAR_CHUNK)
        return flow

    def send(self, to: int, header: Header, payload: Buffer | None, done: Callable[[], None] | None) -> None:
        content = FORMAT.pack(*header)
        if payload is not None and payload.nbytes <= INLINE:
            content += payload.tobytes()
        self.requests.append(self.comm.Isend([content, self.binding.BYTE], to, HEADERS))
        self.ends.append((None, NO_RANK, content))
        if payload is not None and payload.nbytes > INLINE:
            self.outgoing[to].add(payload, done)
        elif done is not None:
            done()

    def receive(self, source: int, into: Buffer, done: Callable[[], None]) -> None:
        self.incoming[source].add(into, done)

    def poll(self) -> Iterator[tuple[int, Header, bytes | None]]:
        try:
            yield from self.arrived()
        except self.binding.Exception as error:
            raise PeerFailed(self.lost(), f"without a word ({error.Get_error_string()})") from error

    def lost(self) -> int:
        """Return a rank that MPI knows to be dead; -1 where it does not say."""
        try:
            dead = self.comm.Get_failed()
            ranks = self.binding.Group.Translate_ranks(dead, list(range(dead.size)), self.comm.Get_group())
        except (self.binding.Exception, NotImplementedError, AttributeError):
            return -1
        return int(ranks[0]) if len(ranks) else -1

    def arrived(self) -> Iterator[tuple[int, Header, bytes | None]]:
        """Complete what has ended, and yield what has come."""
        if self.requests:
            self.complete()
        while self.comm.Iprobe(self.binding.ANY_SOURCE, HEADERS, self.status):
            source, count = self.status.Get_source(), self.status.Get_count(self.binding.BYTE)
            content = bytearray(count)
            self.comm.Recv([content, self.binding.BYTE], source, HEADERS)
            self.heard_at[source] = time.monotonic()
            header = Header._make(FORMAT.unpack_from(content))
            short = not header.size or count > FORMAT.size
            yield source, header, bytes(content[FORMAT.size :]) if short else None

    def complete(self) -> None:
        """Forget MPI's requests that have ended, and follow up on those that were parts of payloads."""
        ended = self.binding.Request.Testsome(self.requests)
        if not ended:
            return
        follow = [self.ends[place] for place in sorted(ended)]
        gone = set(ended)
        self.requests = [request for place, request in enumerate(self.requests) if place not in gone]
        self.ends = [end for place, end in enumerate(self.ends) if place not in gone]
        for flow, sign_of, part in follow:
            if flow is not None:
                self.finish(flow, sign_of, part[1])

    def finish(self, flow: Flow, sign_of: int, done: Callable[[], None] | None) -> None:
        """Note that a part of a payload has gone, or come."""
        self.done_parts += 1
        if sign_of != NO_RANK:
            self.heard_at[sign_of] = time.monotonic()
        flow.in_flight -= 1
        flow.fill()
        if done is not None:
            done()

    def pause(self) -> None:
        """Do nothing: MPI carries bytes in the thread that polls."""

    def rest(self, seconds: float) -> None:
        time.sleep(seconds)

    @property
    def parts(self) -> int:
        return self.done_parts

    def last_heard(self, rank: int) -> float:
        return self.heard_at[rank]

    def close(self, *, orderly: bool) -> None:
        if orderly:
            self.comm.Free()
            self.membership.end_run()

    def end_job(self) -> None:
        self.binding.COMM_WORLD.Abort(1)
