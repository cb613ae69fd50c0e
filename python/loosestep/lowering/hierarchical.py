"""Hierarchical collectives: within each host, between the leaders of the hosts, within each host again.

Sums have an order of their own there, *two-level*: per element a left fold in rank order over the workers of each
host, then a left fold over hosts, in the order of their first ranks. A mean is that of the hosts' means, each
weighted by the sum of its workers' weights, with the rule for weights on both levels. So every byte crosses the
link between two hosts once, whatever the number of workers behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from loosestep.foundation import checks
from loosestep.lowering import collectives
from loosestep.lowering.costs import cost_of
from loosestep.lowering.requests import Hosted
from loosestep.requests import AllGather, AllReduce, Barrier, Broadcast, Exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from loosestep.requests import Buffer, Communication, Group, Request
    from loosestep.requests.worker import Worker

Hosts: TypeAlias = "tuple[Group, ...]"  # the ranks of each, in rank order
LANES = 2  # a collective visits its host's memory twice: before and after it has met the other hosts
BEFORE, AFTER = range(LANES)


def split(counts: Sequence[int], size: int) -> Hosts:
    """Return the ranks of each host, in rank order."""
    if sum(counts) != size:
        raise ValueError(f"hosts={tuple(counts)} have {sum(counts)} workers, but there are {size}")
    edges = accumulate(counts, initial=0)
    return tuple(tuple(range(low, high)) for low, high in pairwise(edges))


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

    def host_of(self, rank: int) -> Group:
        """Return the ranks that share a host with `rank`, itself included."""
        return next(host for host in self.hosts if rank in host)


@dataclass(frozen=True)
class Ticket:
    """The order in which one collective uses its host's memory, and the tag of its messages."""

    number: int
    tag: int

    def visit(self, lane: int, requests: Iterator[Communication] | Sequence[Communication]) -> Hosted:
        """Return the intra-host phase with these collectives."""
        return Hosted(lane, self.number, self.tag, iter(requests))


def all_reduce(request: AllReduce, place: HostMap, ticket: Ticket) -> Iterator[Communication]:
    """Reduce on each host, then among leaders, then broadcast. Leaders send what a reduction among them sends."""
    buf, op, host = request.buf, request.op, place.host
    weight = np.array([float(request.weight)])
    yield ticket.visit(BEFORE, [AllReduce(buf, op, request.weight, host), AllReduce(weight, "sum", group=host)])
    if place.is_leader:
        among = AllReduce(buf, op, float(weight[0]), place.leaders)
        weight[0] = yield from collectives.all_reduce(among, place.worker, ticket.tag)
    yield ticket.visit(AFTER, spread(buf, weight, host))


def spread(buf: Buffer, changed: Buffer, host: Group) -> Iterator[Broadcast]:
    """Broadcast the leader's buffer to its host; where all weights were 0, leave every buffer as it was."""
    yield Broadcast(changed, host[0], host)
    if changed[0]:
        yield Broadcast(buf, host[0], host)


def all_gather(request: AllGather, place: HostMap, ticket: Ticket) -> Iterator[Communication]:
    """Gather on each host, exchange the hosts' pieces among leaders, then broadcast."""
    rows = request.out.reshape(place.worker.size, -1)
    rooms = {host[0]: np.empty((len(host), rows.shape[1]), rows.dtype) for host in place.hosts}
    mine = rooms.pop(place.host[0])
    yield ticket.visit(BEFORE, [AllGather(request.piece, mine.reshape(-1), place.host)])
    if place.is_leader:
        sends = [(rank, mine.reshape(-1)) for rank in rooms]
        yield Exchange(sends, [(rank, room.reshape(-1)) for rank, room in rooms.items()], tag=ticket.tag)
        for host in place.hosts:
            rows[list(host)] = mine if host is place.host else rooms[host[0]]
    yield ticket.visit(AFTER, [Broadcast(request.out, place.host[0], place.host)])


def broadcast(request: Broadcast, place: HostMap, ticket: Ticket) -> Iterator[Communication]:
    """Send from the root's host, through its leader, to the other hosts."""
    host, home = place.host, place.host_of(request.root)
    yield ticket.visit(BEFORE, [Broadcast(request.buf, request.root, host)] if host is home else [])
    if place.is_leader:
        among = Broadcast(request.buf, home[0], place.leaders)
        yield from collectives.broadcast(among, place.worker, ticket.tag)
    yield ticket.visit(AFTER, [] if host is home else [Broadcast(request.buf, host[0], host)])


def barrier(request: Barrier, place: HostMap, ticket: Ticket) -> Iterator[Communication]:
    """Wait for the workers of the host, then for the hosts, then release the workers."""
    yield ticket.visit(BEFORE, [Barrier(place.host)])
    if place.is_leader:
        yield from collectives.barrier(Barrier(place.leaders), place.worker, ticket.tag)
    yield ticket.visit(AFTER, [Barrier(place.host)])


FORMS: dict[type[Request], Callable[..., Iterator[Communication]]] = {
    AllReduce: all_reduce,
    AllGather: all_gather,
    Broadcast: broadcast,
    Barrier: barrier,
}


def cost(request: Request, place: HostMap) -> tuple[int, int]:
    """Return (bytes, messages) that this worker sends to other hosts; memory within a host is not counted."""
    if not place.is_leader:
        return 0, 0
    if isinstance(request, AllGather):
        others = len(place.hosts) - 1
        return others * len(place.host) * request.piece.nbytes, others
    among: Request = Barrier(place.leaders)
    if isinstance(request, AllReduce):
        among = AllReduce(request.buf, group=place.leaders)
    if isinstance(request, Broadcast):
        among = Broadcast(request.buf, place.host_of(request.root)[0], place.leaders)
    return cost_of(among, place.worker.rank, place.worker.size)


def fold(op: str, parts: Sequence[Buffer], weights: Sequence[float], hosts: Hosts) -> bool:
    """Reduce in that order into the first host's first part.

    Return False, with nothing done, if all weights are 0.
    """
    totals = []
    for host in hosts:
        mine = [weights[rank] for rank in host]
        collectives.fold(op, [parts[rank] for rank in host], parts[host[0]], mine)
        totals.append(sum(mine))
    return collectives.fold(op, [parts[host[0]] for host in hosts], parts[hosts[0][0]], totals)
