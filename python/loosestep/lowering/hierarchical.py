"""Collectives on two levels: within each host, between the first workers of the hosts, within each host again.

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
    """The hosts of so many workers each, in rank order."""
    if sum(counts) != size:
        raise ValueError(f"hosts={tuple(counts)} have {sum(counts)} workers, but there are {size}")
    edges = accumulate(counts, initial=0)
    return tuple(tuple(range(low, high)) for low, high in pairwise(edges))


def checked(hosts: Sequence[int]) -> tuple[int, ...]:
    """As many workers on every host as it says: at least one."""
    if isinstance(hosts, str) or not hasattr(hosts, "__len__") or not len(hosts):
        raise TypeError(f"hosts must be the number of workers on each host, as [2, 2], got {hosts!r}")
    for count in hosts:
        checks.integer("every number in hosts", count)
    return tuple(hosts)


class Place:
    """Where a worker stands: on which host, and whether it is the one that meets the other hosts."""

    def __init__(self, worker: Worker, hosts: Hosts) -> None:
        self.worker, self.hosts = worker, hosts
        self.leaders = tuple(host[0] for host in hosts)
        self.host = self.host_of(worker.rank)
        self.leads = worker.rank == self.host[0]

    def host_of(self, rank: int) -> Group:
        """Those who share memory with that rank, itself too."""
        return next(host for host in self.hosts if rank in host)


@dataclass(frozen=True)
class Ticket:
    """Of one collective: the order in which it visits memory, and the tag of its messages."""

    number: int
    tag: int

    def visit(self, lane: int, requests: Iterator[Communication] | Sequence[Communication]) -> Hosted:
        """One visit."""
        return Hosted(lane, self.number, self.tag, iter(requests))


def all_reduce(request: AllReduce, place: Place, ticket: Ticket) -> Iterator[Communication]:
    """Leaders send what they would in a reduction among themselves, the others nothing."""
    buf, op, host = request.buf, request.op, place.host
    weight = np.array([float(request.weight)])
    yield ticket.visit(BEFORE, [AllReduce(buf, op, request.weight, host), AllReduce(weight, "sum", group=host)])
    if place.leads:
        among = AllReduce(buf, op, float(weight[0]), place.leaders)
        weight[0] = yield from collectives.all_reduce(among, place.worker, ticket.tag)
    yield ticket.visit(AFTER, spread(buf, weight, host))


def spread(buf: Buffer, changed: Buffer, host: Group) -> Iterator[Broadcast]:
    """What the leader has, to its host; where nobody had any weight, every buffer stays what it was."""
    yield Broadcast(changed, host[0], host)
    if changed[0]:
        yield Broadcast(buf, host[0], host)


def all_gather(request: AllGather, place: Place, ticket: Ticket) -> Iterator[Communication]:
    """Leaders send their host's pieces to one another."""
    rows = request.out.reshape(place.worker.size, -1)
    rooms = {host[0]: np.empty((len(host), rows.shape[1]), rows.dtype) for host in place.hosts}
    mine = rooms.pop(place.host[0])
    yield ticket.visit(BEFORE, [AllGather(request.piece, mine.reshape(-1), place.host)])
    if place.leads:
        sends = [(rank, mine.reshape(-1)) for rank in rooms]
        yield Exchange(sends, [(rank, room.reshape(-1)) for rank, room in rooms.items()], tag=ticket.tag)
        for host in place.hosts:
            rows[list(host)] = mine if host is place.host else rooms[host[0]]
    yield ticket.visit(AFTER, [Broadcast(request.out, place.host[0], place.host)])


def broadcast(request: Broadcast, place: Place, ticket: Ticket) -> Iterator[Communication]:
    """Through the leader of the root's host to the others."""
    host, home = place.host, place.host_of(request.root)
    yield ticket.visit(BEFORE, [Broadcast(request.buf, request.root, host)] if host is home else [])
    if place.leads:
        among = Broadcast(request.buf, home[0], place.leaders)
        yield from collectives.broadcast(among, place.worker, ticket.tag)
    yield ticket.visit(AFTER, [] if host is home else [Broadcast(request.buf, host[0], host)])


def barrier(request: Barrier, place: Place, ticket: Ticket) -> Iterator[Communication]:
    """All of a host have come, all hosts have, all of a host may go."""
    yield ticket.visit(BEFORE, [Barrier(place.host)])
    if place.leads:
        yield from collectives.barrier(Barrier(place.leaders), place.worker, ticket.tag)
    yield ticket.visit(AFTER, [Barrier(place.host)])


FORMS: dict[type[Request], Callable[..., Iterator[Communication]]] = {
    AllReduce: all_reduce,
    AllGather: all_gather,
    Broadcast: broadcast,
    Barrier: barrier,
}


def cost(request: Request, place: Place) -> tuple[int, int]:
    """(bytes, messages) that this worker sends to other hosts; what passes through a host's memory is not sent."""
    if not place.leads:
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
    """The reduction by itself, into the first host's first part. All weights 0: False, nothing done."""
    totals = []
    for host in hosts:
        mine = [weights[rank] for rank in host]
        collectives.fold(op, [parts[rank] for rank in host], parts[host[0]], mine)
        totals.append(sum(mine))
    return collectives.fold(op, [parts[host[0]] for host in hosts], parts[hosts[0][0]], totals)
