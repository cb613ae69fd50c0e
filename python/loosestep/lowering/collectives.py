"""Collectives as generators of `Exchange`.

Sums have one order: per element a left fold in rank order, whatever the transport. A chunk's owner receives
every worker's part (reduce-scatter by direct exchange: the bytes and the time of a ring), folds, and passes
the result on (allgather).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from loosestep import ops
from loosestep.foundation import buffers
from loosestep.requests import AllGather, AllReduce, Barrier, Broadcast, Exchange, Mix
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
    """Send 2 (n-1) messages of d/n values: 2 (n-1) latency + 2 (n-1)/n bytes/bandwidth after the last arrival.

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
    if not done:  # the same on all workers: results are discarded, and sending costs as always
        whole = [(rank, np.empty_like(chunk)) for rank, chunk in whole]
    for to, source in zip(after, reversed(after), strict=True):
        yield Exchange(((ranks[to], chunks[me]),), (whole[source],), 0.0, None, tag)
    return done


def rows_like(chunk: Buffer, n: int) -> list[Buffer]:
    """Return n new buffers like a chunk, for the parts of n workers."""
    rows = buffers.like(chunk, chunk.size * n)
    return [rows[chunk.size * rank : chunk.size * (rank + 1)] for rank in range(n)]


def fold(op: str, parts: Sequence[Buffer], out: Buffer, weights: Sequence[float]) -> bool:
    """Reduce by a left fold in rank order; `out` may be a part.

    Return False, with nothing done, if all weights are 0.
    """
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
    """Send n-1 messages of d values."""
    ranks = members(request, worker.size)
    me, n = ranks.index(worker.rank), len(ranks)
    places = request.out.reshape(n, -1)
    ops.copy(request.piece, places[me])
    for hop in range(1, n):
        to, source = (me + hop) % n, (me - hop) % n
        yield Exchange(((ranks[to], places[me]),), ((ranks[source], places[source]),), tag=tag)


def broadcast(request: Broadcast, worker: Worker, tag: int) -> Iterator[Exchange]:
    """Send along a binomial tree: about log2 n steps of d values."""
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
    """Send ceil(log2 n) empty messages, by dissemination."""
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
    """Set buf <- sum_j w_ij x_j, a left fold in rank order."""
    out = worker.scratch(("mixed", address(request.buf)), request.buf)
    ops.weighted_sum(parts, [weight for _, weight in request.weights.row], out)
    ops.copy(out, request.buf)


FORMS: dict[type[Request], Callable[..., Iterator[Exchange]]] = {
    AllReduce: all_reduce,
    AllGather: all_gather,
    Broadcast: broadcast,
    Barrier: barrier,
}
