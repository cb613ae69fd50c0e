"""Hierarchical collectives: within each host, between the leaders of the hosts, within each host again.

A host's leader is its first worker. Sums have an order of their own, *two-level*: per element a left fold in rank
order over the workers of each host, then a left fold over hosts, in the order of their first ranks. A mean is that
of the hosts' means, each weighted by the sum of its workers' weights, with the rule for weights on both levels. So
every byte crosses the link between two hosts once, whatever the number of workers there.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from loosestep.foundation import checks
from loosestep.lowering import collectives
from loosestep.lowering.costs import KEYS, cost_of
from loosestep.lowering.requests import IntraHost
from loosestep.requests import AllGather, AllReduce, Barrier, Broadcast, Exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from loosestep.requests import Buffer, Communication, Group, Request
    from loosestep.requests.worker import Worker

Hosts: TypeAlias = "tuple[Group, ...]"  # the ranks of each, in rank order
PHASES = 2  # within the host: before and after its leader has exchanged with the other hosts
BEFORE, AFTER = range(PHASES)


def split(counts: Sequence[int], size: int) -> Hosts:
    """Return the ranks of each host, in rank order."""
    if sum(counts) != size:
        raise ValueError(f"hosts={tuple(counts)} have {sum(counts)} workers, but there are {size}")
    edges = accumulate(counts, initial=0)
    return tuple(tuple(range(low, high)) for low, high in pairwise(edges))


def place(counts: Sequence[int], size: int, rank: int) -> int:
    """Return the place of a rank among those of its host."""
    return next(group.index(rank) for group in split(counts, size) if rank in group)


def checked(hosts: Sequence[int]) -> tuple[int, ...]:
    """Return the number of workers of every host; refuse anything but whole numbers of at least 1."""
    if isinstance(hosts, str) or not hasattr(hosts, "__len__") or not len(hosts):
        raise TypeError(f"hosts must be the number of workers on each host, as [2, 2], got {hosts!r}")
    for count in hosts:
        checks.integer("every number in hosts", count)
    return tuple(hosts)


class HostMap:
    """Which workers share a host, seen by one of them; the first of each host is its leader."""

    def __init__(self, worker: Worker, hosts: Hosts) -> None:
        self.worker, self.hosts = worker, hosts
        self.leaders = tuple(host[0] for host in hosts)
        self.host = self.host_of(worker.rank)
        self.is_leader = worker.rank == self.host[0]
        self.costs: dict[object, tuple[int, int]] = {}  # of requests by kind and size

    def host_of(self, rank: int) -> Group:
        """Return the ranks that share a host with `rank`, itself included."""
        return next(host for host in self.hosts if rank in host)


@dataclass(frozen=True)
class Ticket:
    """The order in which one collective uses its host's memory, and the tag of its messages."""

    number: int
    tag: int

    def intra_host(self, phase: int, requests: Iterator[Communication] | Sequence[Communication]) -> IntraHost:
        """Return the intra-host phase with these collectives."""
        return IntraHost(phase, self.number, self.tag, iter(requests))


def all_reduce(request: AllReduce, hosts: HostMap, ticket: Ticket) -> Iterator[Communication]:
    """Reduce on each host, then among leaders, then broadcast. Leaders send what a reduction among them sends."""
    buf, op, host = request.buf, request.op, hosts.host
    weight = np.array([float(request.weight)])
    yield ticket.intra_host(
        BEFORE, [AllReduce(buf, op, request.weight, host), AllReduce(weight, "sum", group=host)]
    )
    if hosts.is_leader:
        among = AllReduce(buf, op, float(weight[0]), hosts.leaders)
        weight[0] = yield from collectives.all_reduce(among, hosts.worker, ticket.tag)
    yield ticket.intra_host(AFTER, spread(buf, weight, host))


def spread(buf: Buffer, changed: Buffer, host: Group) -> Iterator[Broadcast]:
    """Broadcast the leader's buffer to its host; where all weights were 0, leave every buffer as it was."""
    yield Broadcast(changed, host[0], host)
    if changed[0]:
        yield Broadcast(buf, host[0], host)


def all_gather(request: AllGather, hosts: HostMap, ticket: Ticket) -> Iterator[Communication]:
    """Gather on each host, exchange the hosts' pieces among leaders, then broadcast."""
    rows = request.out.reshape(hosts.worker.size, -1)
    rooms = {host[0]: np.empty((len(host), rows.shape[1]), rows.dtype) for host in hosts.hosts}
    mine = rooms.pop(hosts.host[0])
    yield ticket.intra_host(BEFORE, [AllGather(request.piece, mine.reshape(-1), hosts.host)])
    if hosts.is_leader:
        sends = [(rank, mine.reshape(-1)) for rank in rooms]
        yield Exchange(sends, [(rank, room.reshape(-1)) for rank, room in rooms.items()], tag=ticket.tag)
        for host in hosts.hosts:
            rows[list(host)] = mine if host is hosts.host else rooms[host[0]]
    yield ticket.intra_host(AFTER, [Broadcast(request.out, hosts.host[0], hosts.host)])


def broadcast(request: Broadcast, hosts: HostMap, ticket: Ticket) -> Iterator[Communication]:
    """Send from the root's host, through its leader, to the other hosts."""
    host, home = hosts.host, hosts.host_of(request.root)
    yield ticket.intra_host(BEFORE, [Broadcast(request.buf, request.root, host)] if host is home else [])
    if hosts.is_leader:
        among = Broadcast(request.buf, home[0], hosts.leaders)
        yield from collectives.broadcast(among, hosts.worker, ticket.tag)
    yield ticket.intra_host(AFTER, [] if host is home else [Broadcast(request.buf, host[0], host)])


def barrier(request: Barrier, hosts: HostMap, ticket: Ticket) -> Iterator[Communication]:
    """Wait for the workers of the host, then for the hosts, then release the workers."""
    yield ticket.intra_host(BEFORE, [Barrier(hosts.host)])
    if hosts.is_leader:
        yield from collectives.barrier(Barrier(hosts.leaders), hosts.worker, ticket.tag)
    yield ticket.intra_host(AFTER, [Barrier(hosts.host)])


FORMS: dict[type[Request], Callable[..., Iterator[Communication]]] = {
    AllReduce: all_reduce,
    AllGather: all_gather,
    Broadcast: broadcast,
    Barrier: barrier,
}


def cost(request: Request, hosts: HostMap) -> tuple[int, int]:
    """Return (bytes, messages) that this worker sends to other hosts; memory within a host is not counted."""
    if not hosts.is_leader:
        return 0, 0
    key = type(request), KEYS[type(request)](request)
    if key not in hosts.costs:  # every round asks for the same
        hosts.costs[key] = leaders_cost(request, hosts)
    return hosts.costs[key]


def leaders_cost(request: Request, hosts: HostMap) -> tuple[int, int]:
    """Return (bytes, messages) that a leader sends to the others."""
    if isinstance(request, AllGather):
        others = len(hosts.hosts) - 1
        return others * len(hosts.host) * request.piece.nbytes, others
    among: Request = Barrier(hosts.leaders)
    if isinstance(request, AllReduce):
        among = AllReduce(request.buf, group=hosts.leaders)
    if isinstance(request, Broadcast):
        among = Broadcast(request.buf, hosts.host_of(request.root)[0], hosts.leaders)
    return cost_of(among, hosts.worker.rank, hosts.worker.size, hosts.worker.links)


def fold(op: str, parts: Sequence[Buffer], weights: Sequence[float], hosts: Hosts) -> bool:
    """Reduce into the first host's first part. Return False where all weights are 0 and nothing was done."""
    totals = []
    for host in hosts:
        mine = [weights[rank] for rank in host]
        collectives.fold(op, [parts[rank] for rank in host], parts[host[0]], mine)
        totals.append(sum(mine))
    return collectives.fold(op, [parts[host[0]] for host in hosts], parts[hosts[0][0]], totals)
