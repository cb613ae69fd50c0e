"""Collectives as generators of `Exchange`, and what each request sends.

Sums have one order: per element a left fold in rank order, whatever the transport. A chunk's owner receives
every worker's part (reduce-scatter by direct exchange: the bytes and the time of a ring), folds, and passes
the result on (allgather).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from loosestep import ops
from loosestep.foundation import buffers
from loosestep.lowering.requests import Script
from loosestep.requests import AllGather, AllReduce, Barrier, Broadcast, Elastic, Exchange, Mix, Push, Start
from loosestep.requests.base import address

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker


def bounds(size: int, parts: int) -> list[int]:
    """Return where each of `parts` nearly equal chunks of `size` elements begins, and the end."""
    return [size * part // parts for part in range(parts + 1)]


def members(request: Request, size: int) -> Sequence[int]:
    """Return the ranks that take part in a request."""
    group = getattr(request, "group", None)
    return range(size) if group is None else group


def all_reduce(request: AllReduce, worker: Worker, tag: int) -> Generator[Exchange, None, bool]:
    """2 (n-1) messages of d/n values; time 2 (n-1) latency + 2 (n-1)/n bytes/bandwidth from the last arrival.

    Returns False if all weights are 0, so that nothing was done.
    """
    ranks = members(request, worker.size)
    me, n = ranks.index(worker.rank), len(ranks)
    edges = bounds(request.buf.size, n)
    chunks = [request.buf[low:high] for low, high in pairwise(edges)]
    free = worker.free[type(request.buf), request.buf.dtype, chunks[me].size, n]
    parts = free.pop() if free else rows_like(chunks[me], n)
    own, parts[me] = parts[me], chunks[me]
    whole, places = list(zip(ranks, chunks, strict=True)), list(zip(ranks, parts, strict=True))
    weights = {worker.rank: float(request.weight)}
    weight, after = request.weight, [*range(me + 1, n), *range(me)]  # hop k: to me + k, from me - k
    for to, source in zip(after, reversed(after), strict=True):
        yield Exchange((whole[to],), (places[source],), weight, weights, tag)
    done = fold(request.op, parts, chunks[me], [weights[rank] for rank in ranks])
    parts[me] = own
    free.append(parts)
    if not done:  # as all workers know: what is passed on is not kept, and costs what it always does
        whole = [(rank, np.empty_like(chunk)) for rank, chunk in whole]
    for to, source in zip(after, reversed(after), strict=True):
        yield Exchange(((ranks[to], chunks[me]),), (whole[source],), 0.0, None, tag)
    return done


def rows_like(chunk: Buffer, n: int) -> list[Buffer]:
    """Return n new buffers like a chunk, for the parts of n workers."""
    rows = buffers.like(chunk, chunk.size * n)
    return [rows[chunk.size * rank : chunk.size * (rank + 1)] for rank in range(n)]


def fold(op: str, parts: Sequence[Buffer], out: Buffer, weights: Sequence[float]) -> bool:
    """Reduce by a left fold in rank order; `out` may be a part. Return False where all weights are 0."""
    if op == "mean":
        if any(weights):
            ops.mean_of(parts, out, weights)
        return any(weights)
    total = parts[0].copy()
    for part in parts[1:]:
        if op == "sum":
            ops.axpy(total, part, 1.0)
        else:
            (np.maximum if op == "max" else np.minimum)(total, part, out=total)
    ops.copy(total, out)
    return True


def all_gather(request: AllGather, worker: Worker, tag: int) -> Iterator[Exchange]:
    """n-1 messages of d values."""
    ranks = members(request, worker.size)
    me, n = ranks.index(worker.rank), len(ranks)
    places = request.out.reshape(n, -1)
    ops.copy(request.piece, places[me])
    for hop in range(1, n):
        to, source = (me + hop) % n, (me - hop) % n
        yield Exchange(((ranks[to], places[me]),), ((ranks[source], places[source]),), tag=tag)


def broadcast(request: Broadcast, worker: Worker, tag: int) -> Iterator[Exchange]:
    """A binomial tree: about log2 n steps of d values."""
    ranks = members(request, worker.size)
    n, root = len(ranks), ranks.index(request.root)
    mine = (ranks.index(worker.rank) - root) % n
    reach = 1
    while reach < n:
        if mine < reach and mine + reach < n:
            yield Exchange(sends=((ranks[(mine + reach + root) % n], request.buf),), tag=tag)
        elif reach <= mine < 2 * reach:
            yield Exchange(recvs=((ranks[(mine - reach + root) % n], request.buf),), tag=tag)
        reach *= 2


def barrier(request: Barrier, worker: Worker, tag: int) -> Iterator[Exchange]:
    """Dissemination: ceil(log2 n) empty messages."""
    ranks = members(request, worker.size)
    me, n = ranks.index(worker.rank), len(ranks)
    empty = np.empty(0, np.float32)
    reach = 1
    while reach < n:
        to, source = ranks[(me + reach) % n], ranks[(me - reach) % n]
        yield Exchange(((to, empty),), ((source, empty),), tag=tag)
        reach *= 2


def mix_exchange(request: Mix, worker: Worker, tag: int) -> tuple[Exchange, list[Buffer]]:
    """Return the exchange of a `Mix`, and the buffers to sum afterwards, in rank order."""
    sources = [rank for rank, _ in request.weights.row if rank != worker.rank]
    place = address(request.buf)
    room = {rank: worker.scratch(("mix", place, index), request.buf) for index, rank in enumerate(sources)}
    parts = [request.buf if rank == worker.rank else room[rank] for rank, _ in request.weights.row]
    sends = tuple((rank, request.buf) for rank in request.weights.readers)
    return Exchange(sends, tuple(room.items()), tag=tag), parts


def mix_finish(request: Mix, worker: Worker, parts: Sequence[Buffer]) -> None:
    """buf <- sum_j w_ij x_j, a left fold in rank order."""
    out = worker.scratch(("mixed", address(request.buf)), request.buf)
    ops.weighted_sum(parts, [weight for _, weight in request.weights.row], out)
    ops.copy(out, request.buf)


FORMS: dict[type[Request], Callable[..., Iterator[Exchange]]] = {
    AllReduce: all_reduce,
    AllGather: all_gather,
    Broadcast: broadcast,
    Barrier: barrier,
}


# --- what is sent ------------------------------------------------------------------------------------------


def _all_reduce_traffic(request: AllReduce, rank: int, size: int) -> tuple[int, int]:
    total, itemsize, me, n = request.buf.size, request.buf.itemsize, rank, size
    if request.group is not None:
        me, n = request.group.index(rank), len(request.group)
    mine = total * (me + 1) // n - total * me // n
    return (total + (n - 2) * mine) * itemsize, 2 * (n - 1)


def _all_gather_traffic(request: AllGather, rank: int, size: int) -> tuple[int, int]:
    others = len(members(request, size)) - 1
    return others * request.piece.nbytes, others


def _broadcast_traffic(request: Broadcast, rank: int, size: int) -> tuple[int, int]:
    ranks = members(request, size)
    n = len(ranks)
    mine = (ranks.index(rank) - ranks.index(request.root)) % n
    sent = sum(1 for power in range(n.bit_length()) if mine < 1 << power and mine + (1 << power) < n)
    return sent * request.buf.nbytes, sent


def _barrier_traffic(request: Barrier, rank: int, size: int) -> tuple[int, int]:
    return 0, ((size if request.group is None else len(request.group)) - 1).bit_length()


def _mix_traffic(request: Mix, rank: int, size: int) -> tuple[int, int]:
    readers = len(request.weights.readers)
    return readers * request.buf.nbytes, readers


def _exchange_traffic(request: Exchange, rank: int, size: int) -> tuple[int, int]:
    return sum(buf.nbytes for _, buf in request.sends), len(request.sends)


Cost: TypeAlias = "Callable[..., tuple[int, int]]"  # (request, rank, size) -> (bytes, messages)

TRAFFIC: dict[type[Request], Cost] = {
    Exchange: _exchange_traffic,
    Push: lambda request, rank, size: (request.nbytes, 1),
    Elastic: lambda request, rank, size: (request.buf.nbytes, 1),
    AllReduce: _all_reduce_traffic,
    AllGather: _all_gather_traffic,
    Broadcast: _broadcast_traffic,
    Barrier: _barrier_traffic,
    Mix: _mix_traffic,
    Start: lambda request, rank, size: traffic(request.request, rank, size),
    Script: lambda request, rank, size: request.sent or traffic(request.source, rank, size),
}


def traffic(request: Request, rank: int, size: int) -> tuple[int, int]:
    """Return (bytes, messages) that this worker sends for a request, headers not counted."""
    count = TRAFFIC.get(type(request))
    return count(request, rank, size) if count else (0, 0)
