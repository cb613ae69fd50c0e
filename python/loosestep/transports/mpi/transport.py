"""Workers in processes, over MPI (mpi4py). MPI carries bytes; matching, sums, centers and liveness are ours.

MPI is never trusted to notice: raw, it returns wrong sums for unequal sizes and waits for ever for a process that
raised. Here every message says what it is, and who waits asks those who are late how they are.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from loosestep.foundation import checks
from loosestep.foundation.errors import PeerFailed
from loosestep.lowering import hierarchical
from loosestep.transports.base import Session, Transport
from loosestep.transports.mpi.company import Company
from loosestep.transports.mpi.host_memory import HostSession, HostsSession
from loosestep.transports.mpi.launchers import BY_LOOSESTEP, check_alone
from loosestep.transports.mpi.session import tell_guard
from loosestep.transports.mpi.wire import FORMAT, Header, Wire, pack, unpack

if TYPE_CHECKING:
    from loosestep.requests import Buffer

HEADERS, PAYLOADS = 1, 2  # MPI tags
NOBODY = -1
INLINE = 4096  # bytes: shorter payloads travel with their header
NEAR_CHUNK = 4 << 20  # bytes: longer payloads are cut so within a host, so that progress can be seen
FAR_CHUNK = 48 << 10  # ... and so between hosts: Open MPI asks before it sends longer parts; answers then wait
# behind what goes the same way, so that one direction of the link stands idle (a sum takes twice as long)
AT_ONCE = 64  # parts under way to or from one process: MPI is slow with thousands


def world() -> Any:
    """MPI's world of processes; from the first call on, they hear of each other's beginnings and ends."""
    return company().world


@cache
def company() -> Company:
    """This process among all that were started together.

    MPI's end is ours where this is the first import of mpi4py: see `company.py`.
    """
    first = "mpi4py.MPI" not in sys.modules
    try:
        import mpi4py

        if first:
            mpi4py.rc.finalize = False
        from mpi4py import MPI as binding  # noqa: N811 - our own MPI is in this file
    except (ImportError, RuntimeError) as error:
        raise ImportError(f"on=MPI() needs an MPI: pip install 'loosestep[mpi]' ({error})") from error
    found = Company(binding.COMM_WORLD, binding, ends=first)
    found.attach()
    return found


def joined() -> Any:
    """Return MPI's world of processes, if all that were started are in it."""
    comm = world()
    wanted = os.environ.get(BY_LOOSESTEP)
    if wanted is not None and int(wanted) != comm.size:
        raise RuntimeError(
            f"started {wanted} ranks, but MPI knows of {comm.size}: mpiexec and mpi4py belong to different MPIs"
        )
    if comm.size == 1:
        check_alone("MPI knows of this process alone (or mpiexec and mpi4py belong to different MPIs)")
    return comm


def marks() -> tuple[bytes, bytes]:
    """Two marks of 16 bytes, of the host and of its network.

    The first is the same for processes that see each other in /proc: one kernel, one name, one name space. The
    second is for those that also reach each other at 127.0.0.1.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    host = f"{boot} {platform.node()} {os.readlink('/proc/self/ns/pid')}"
    net = f"{host} {os.readlink('/proc/self/ns/net')}"
    return digest(host), digest(net)


def digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()


@dataclass(frozen=True, repr=False)
class MPI(Transport):
    """The processes that `mpiexec -n N` or `loosestep run -n N` started, one worker each.

    deadline: seconds for which a worker may compute while others wait for it, before its run begins too.
    silence: seconds without any sign of life after which a worker counts as dead.
    hosts: how many workers live on each host, in rank order, as [2, 2]: those of one share memory. By default this
        is found out; said, it splits one machine, so that what happens between hosts can be tried there.
    """

    deadline: float = 600.0
    silence: float = 10.0
    hosts: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        checks.positive("deadline", self.deadline)
        checks.positive("silence", self.silence)
        if self.hosts is not None:
            object.__setattr__(self, "hosts", hierarchical.checked(self.hosts))

    @property
    def size(self) -> int:
        found: int = joined().size
        return found

    @property
    def rank(self) -> int:
        """Of this process: who prints."""
        mine: int = joined().rank
        return mine

    def open(self, seed: int = 0) -> Session:
        size = self.size
        forced = None if self.hosts is None else hierarchical.split(self.hosts, size)
        wire = Messages(company(), self.deadline)
        tell_guard("begun")  # from now on this rank's failure is heard by the others
        hosts = forced or wire.hosts
        kind = HostSession if len(hosts) == 1 else HostsSession
        return kind(wire, hosts, self.silence, self.deadline)


class Flow:
    """Parts of payloads that go to one process, or come from it, in order, and not too many at a time."""

    def __init__(self, begin: Callable[[Any], None], chunk: int) -> None:
        self.begin, self.chunk = begin, chunk
        self.waiting: deque[tuple[Buffer, Callable[[], None] | None]] = deque()
        self.under_way = 0

    def add(self, payload: Buffer, done: Callable[[], None] | None) -> None:
        """MPI keeps the order between two processes, so parts need no number."""
        whole = payload.reshape(-1).view(np.uint8)
        last = (whole.size - 1) // self.chunk * self.chunk
        for low in range(0, whole.size, self.chunk):
            self.waiting.append((whole[low : low + self.chunk], done if low == last else None))
        self.fill()

    def fill(self) -> None:
        while self.waiting and self.under_way < AT_ONCE:
            self.under_way += 1
            self.begin(self.waiting.popleft())


class Messages(Wire):
    """Bytes by nonblocking MPI: a header, and a longer payload in parts behind it."""

    def __init__(self, company: Company, deadline: float) -> None:
        company.begin(deadline)
        self.company, self.binding = company, company.binding
        self.comm = company.own(deadline)
        self.comm.Set_errhandler(self.binding.ERRORS_RETURN)
        self.rank, self.size = company.rank, company.size
        self.hosts, self.local = self.find_hosts(deadline)
        self.requests: list[Any] = []
        self.ends: list[tuple[Flow | None, int, Any]] = []  # whose part it is, a sign of whose life, the part
        self.sends = [self.flow(rank, NOBODY, self.comm.Isend) for rank in range(self.size)]
        self.receipts = [self.flow(rank, rank, self.comm.Irecv) for rank in range(self.size)]
        self.signs = [time.monotonic()] * self.size
        self.status = self.binding.Status()

    def find_hosts(self, deadline: float) -> tuple[hierarchical.Hosts, bool]:
        """The ranks that can map each other's memory, in the order of their first; and whether all are on one
        machine and network."""
        found = np.zeros((self.size, 32), np.uint8)
        mine = np.frombuffer(b"".join(marks()), np.uint8)
        self.company.finish(self.comm.Iallgather(mine, found), deadline)
        hosts: dict[bytes, list[int]] = {}
        for rank, (host, _) in enumerate(found.reshape(self.size, 2, 16)):
            hosts.setdefault(host.tobytes(), []).append(rank)
        return tuple(map(tuple, hosts.values())), bool((found == found[0]).all())

    def flow(self, peer: int, sign_of: int, begin: Callable[[Any, int, int], Any]) -> Flow:
        """Payloads in one direction between this process and another."""
        near = any(self.rank in host and peer in host for host in self.hosts)

        def track(part: tuple[Buffer, Callable[[], None] | None]) -> None:
            self.requests.append(begin([part[0], self.binding.BYTE], peer, PAYLOADS))
            self.ends.append((flow, sign_of, part))

        flow = Flow(track, NEAR_CHUNK if near else FAR_CHUNK)
        return flow

    def send(self, to: int, header: Header, payload: Buffer | None, done: Callable[[], None] | None) -> None:
        content = pack(header)
        if payload is not None and payload.nbytes <= INLINE:
            content += payload.tobytes()
        self.requests.append(self.comm.Isend([content, self.binding.BYTE], to, HEADERS))
        self.ends.append((None, NOBODY, content))
        if payload is not None and payload.nbytes > INLINE:
            self.sends[to].add(payload, done)
        elif done is not None:
            done()

    def receive(self, source: int, into: Buffer, done: Callable[[], None]) -> None:
        self.receipts[source].add(into, done)

    def poll(self) -> Iterator[tuple[int, Header, bytes | None]]:
        try:
            yield from self.progress()
        except self.binding.Exception as error:
            raise PeerFailed(self.lost(), f"without a word ({error.Get_error_string()})") from error

    def lost(self) -> int:
        """A rank that MPI knows to be dead; -1 where it does not say."""
        try:
            dead = self.comm.Get_failed()
            ranks = self.binding.Group.Translate_ranks(dead, list(range(dead.size)), self.comm.Get_group())
        except (self.binding.Exception, NotImplementedError, AttributeError):
            return -1
        return int(ranks[0]) if len(ranks) else -1

    def progress(self) -> Iterator[tuple[int, Header, bytes | None]]:
        self.settle()
        while self.comm.Iprobe(self.binding.ANY_SOURCE, HEADERS, self.status):
            source, count = self.status.Get_source(), self.status.Get_count(self.binding.BYTE)
            content = bytearray(count)
            self.comm.Recv([content, self.binding.BYTE], source, HEADERS)
            self.signs[source] = time.monotonic()
            header = unpack(content)
            short = not header.size or count > FORMAT.size
            yield source, header, bytes(content[FORMAT.size :]) if short else None

    def settle(self) -> None:
        """What has come to its end."""
        if not self.requests:
            return
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
        """A part of a payload has gone, or come."""
        if sign_of != NOBODY:
            self.signs[sign_of] = time.monotonic()
        flow.under_way -= 1
        flow.fill()
        if done is not None:
            done()

    @property
    def busy(self) -> int:
        return len(self.requests)

    def heard(self, rank: int) -> float:
        return self.signs[rank]

    def close(self, *, orderly: bool) -> None:
        if orderly:
            self.comm.Free()
            self.company.inside = False

    def end_job(self) -> None:
        self.binding.COMM_WORLD.Abort(1)
