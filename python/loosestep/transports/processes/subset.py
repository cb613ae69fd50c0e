"""Some of the processes of a wire as a wire of their own, so that several runs go on beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loosestep.transports.processes.session import WiredTransport
from loosestep.transports.processes.wire import Header, Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from loosestep.lowering.hierarchical import Hosts
    from loosestep.requests import Buffer


class SubsetWire(Wire):
    """A wire between `members`, ranks of another wire; they are numbered in that order here.

    Every process of the other wire makes a subset, whose members send to each other alone.
    """

    def __init__(self, whole: Wire, members: Sequence[int]) -> None:
        self.whole, self.members = whole, list(members)
        self.rank, self.size, self.local = self.members.index(whole.rank), len(self.members), whole.local

    def send(self, to: int, header: Header, payload: Buffer | None, done: Callable[[], None] | None) -> None:
        self.whole.send(self.members[to], header, payload, done)

    def receive(self, source: int, into: Buffer, done: Callable[[], None]) -> None:
        self.whole.receive(self.members[source], into, done)

    def poll(self) -> Iterable[tuple[int, Header, bytes | None]]:
        for source, header, payload in self.whole.poll():
            yield self.members.index(source), header, payload

    @property
    def parts(self) -> int:
        return self.whole.parts

    def last_heard(self, rank: int) -> float:
        return self.whole.last_heard(self.members[rank])

    def close(self, *, orderly: bool) -> None:
        self.whole.close(orderly=orderly)

    def pause(self) -> None:
        self.whole.pause()

    def rest(self, seconds: float) -> None:
        self.whole.rest(seconds)

    def end_job(self) -> None:
        self.whole.end_job()


class Subset(WiredTransport):
    """Some of the processes of a transport, one worker each, numbered in the order of `members`.

    Every process of `on` opens a subset at the same time, each the one that it belongs to.
    """

    def __init__(self, on: WiredTransport, members: tuple[int, ...]) -> None:
        self.on, self.members = on, members

    def __repr__(self) -> str:
        return f"Subset({self.on!r}, {self.members})"

    @property
    def size(self) -> int:
        return len(self.members)

    @property
    def rank(self) -> int:
        return self.members.index(self.on.rank)

    @property
    def local_rank(self) -> int:
        return self.on.local_rank

    @property
    def deadline(self) -> float:  # type: ignore[override]
        return self.on.deadline

    @property
    def latency(self) -> float | None:  # type: ignore[override]
        return self.on.latency

    @property
    def bandwidth(self) -> float | None:  # type: ignore[override]
        return self.on.bandwidth

    @property
    def heartbeat_timeout(self) -> float:  # type: ignore[override]
        return self.on.heartbeat_timeout

    def wire(self) -> tuple[Wire, Hosts]:
        whole, hosts = self.on.wire()
        return SubsetWire(whole, self.members), hosts_of(hosts, self.members)


def hosts_of(hosts: Hosts, members: Sequence[int]) -> Hosts:
    """Return which members share a host, by their numbers in the subset."""
    found = (tuple(number for number, rank in enumerate(members) if rank in host) for host in hosts)
    return tuple(host for host in found if host)
