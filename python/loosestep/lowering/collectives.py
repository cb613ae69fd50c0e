"""Collectives as generators of `Exchange`.

Sums have one order: per element a left fold in rank order, whatever the transport and the form. Either each
worker receives all vectors and folds them, or a chunk's owner receives every worker's part (reduce-scatter by
direct exchange: the bytes of a ring), folds, and passes the result on (allgather): `forms` chooses.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from loosestep import ops
from loosestep.foundation import buffers
from loosestep.lowering import forms
from loosestep.lowering.forms import Form
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
    """Reduce in the form that suits the number of workers, the size and the links (`forms`).

    It receives into memory of its own: d values, or (n-1) d of them in the form WHOLE, kept for the next one.
    Returns False if all weights are 0, so that nothing was done.
    """
    ranks = members(request, worker.size)
    me, n, buf = ranks.index(worker.rank), len(ranks), request.buf
    form = forms.of_all_reduce(n, buf.nbytes, worker.links)
    chunks = [buf] * n if form is Form.WHOLE else [buf[low:high] for low, high in pairwise(bounds(buf.size, n))]
    mine = chunks[me]
    free = worker.free[type(buf), buf.dtype, mine.size, n]
    rows = free.pop() if free else rows_like(mine, n - 1)
    parts = [*rows[:me], mine, *rows[me:]]
    weights = {worker.rank: float(request.weight)}
    for hops in forms.hops(n, form):  # hop k: to me + k, from me - k
        sends = [(ranks[(me + hop) % n], chunks[(me + hop) % n]) for hop in hops]
        recvs = [(ranks[(me - hop) % n], parts[(me - hop) % n]) for hop in hops]
        yield Exchange(sends, recvs, request.weight, weights, tag)
    done = fold(request.op, parts, mine, [weights[rank] for rank in ranks])
    free.append(rows)
    if form is Form.WHOLE:
        return done
    if not done:  # the same on all workers: results are discarded, and sending costs as always
        chunks = [np.empty_like(chunk) for chunk in chunks]
    yield from spread(ranks, me, mine, chunks, form, tag)
    return done


def spread(
    ranks: Sequence[int], me: int, mine: Buffer, places: Sequence[Buffer], form: Form, tag: int
) -> Iterator[Exchange]:
    """Send every other member what this one has, and receive what they have into their places."""
    n = len(ranks)
    for hops in forms.hops(n, form):
        sends = [(ranks[(me + hop) % n], mine) for hop in hops]
        yield Exchange(sends, [(ranks[(me - hop) % n], places[(me - hop) % n]) for hop in hops], tag=tag)


def rows_like(chunk: Buffer, count: int) -> list[Buffer]:
    """Return new buffers like a chunk, for the parts of so many workers."""
    rows = buffers.like(chunk, chunk.size * count)
    return [rows[chunk.size * row : chunk.size * (row + 1)] for row in range(count)]


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
    """Send n-1 messages of d values, all at once where that suits the links (`forms`)."""
    ranks = members(request, worker.size)
    me, n = ranks.index(worker.rank), len(ranks)
    places = request.out.reshape(n, -1)
    ops.copy(request.piece, places[me])
    form = forms.of_all_gather(n, request.piece.nbytes, worker.links)
    yield from spread(ranks, me, places[me], list(places), form, tag)


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
    after = sorted(request.weights.readers, key=lambda rank: (rank - worker.rank) % worker.size)
    sends = tuple((rank, request.buf) for rank in after)  # so that not all send to the same worker first
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
