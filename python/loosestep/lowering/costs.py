"""What one worker sends for each request: bytes and messages, headers not counted.

The counts are those of the forms in `collectives`; transports that perform a request natively are metered alike.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, TypeAlias

from loosestep.lowering import forms
from loosestep.lowering.collectives import members
from loosestep.lowering.forms import Form
from loosestep.lowering.requests import Script
from loosestep.requests import AllGather, AllReduce, Barrier, Broadcast, Elastic, Exchange, Mix, Push, Start

if TYPE_CHECKING:
    from collections.abc import Callable

    from loosestep.requests import Request
    from loosestep.requests.links import Links


def all_reduce(request: AllReduce, rank: int, size: int, links: Links | None) -> tuple[int, int]:
    total, itemsize, me, n = request.buf.size, request.buf.itemsize, rank, size
    if request.group is not None:
        me, n = request.group.index(rank), len(request.group)
    if forms.of_all_reduce(n, request.buf.nbytes, links) is Form.WHOLE:
        return (n - 1) * request.buf.nbytes, n - 1
    mine = total * (me + 1) // n - total * me // n
    return (total + (n - 2) * mine) * itemsize, 2 * (n - 1)


def all_gather(request: AllGather, rank: int, size: int, links: Links | None) -> tuple[int, int]:
    others = len(members(request, size)) - 1
    return others * request.piece.nbytes, others


def broadcast(request: Broadcast, rank: int, size: int, links: Links | None) -> tuple[int, int]:
    ranks = members(request, size)
    n = len(ranks)
    mine = (ranks.index(rank) - ranks.index(request.root)) % n
    sent = sum(1 for power in range(n.bit_length()) if mine < 1 << power and mine + (1 << power) < n)
    return sent * request.buf.nbytes, sent


def barrier(request: Barrier, rank: int, size: int, links: Links | None) -> tuple[int, int]:
    return 0, ((size if request.group is None else len(request.group)) - 1).bit_length()


def mix(request: Mix, rank: int, size: int, links: Links | None) -> tuple[int, int]:
    readers = len(request.weights.readers)
    return readers * request.buf.nbytes, readers


def exchange(request: Exchange, rank: int, size: int, links: Links | None) -> tuple[int, int]:
    return sum(buf.nbytes for _, buf in request.sends), len(request.sends)


Cost: TypeAlias = "Callable[..., tuple[int, int]]"  # (request, rank, size, links) -> (bytes, messages)

COSTS: dict[type[Request], Cost] = {
    Exchange: exchange,
    Push: lambda request, rank, size, links: (request.nbytes, 1),
    Elastic: lambda request, rank, size, links: (request.buf.nbytes, 1),
    AllReduce: all_reduce,
    AllGather: all_gather,
    Broadcast: broadcast,
    Barrier: barrier,
    Mix: mix,
    Start: lambda request, rank, size, links: cost_of(request.request, rank, size, links),
    Script: lambda request, rank, size, links: request.sent or cost_of(request.source, rank, size, links),
}

KEYS: dict[type[Request], Callable[[Request], object]] = {
    AllReduce: attrgetter("buf.size", "buf.itemsize", "group"),
    AllGather: attrgetter("piece.nbytes", "group"),
    Broadcast: attrgetter("buf.nbytes", "root", "group"),
    Barrier: attrgetter("group"),
    Mix: attrgetter("buf.nbytes", "weights.readers"),
    Elastic: attrgetter("buf.nbytes"),
}
"""What of a request its cost depends on: every round asks for the same, whose cost needs not be counted again."""


def cost_of(request: Request, rank: int, size: int, links: Links | None = None) -> tuple[int, int]:
    """Return (bytes, messages) that this worker sends for a request, headers not counted.

    links: those by which the worker chooses the form of a collective; None where it does not choose.
    """
    count = COSTS.get(type(request))
    return count(request, rank, size, links) if count else (0, 0)
