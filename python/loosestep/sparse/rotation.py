"""Model rotation between workers: their users stay, slices of the items go round a ring, over any transport."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from loosestep import _core, buffers
from loosestep.errors import positive
from loosestep.lowering import Lowering
from loosestep.requests import Buffer, Exchange, Request, Start, Wait
from loosestep.sparse.options import whole
from loosestep.sparse.ratings import Floats, Ratings
from loosestep.sparse.tables import LINE, Table
from loosestep.transport import Task, Transport
from loosestep.worker import Worker


class Share:
    """What one worker of a rotation has: its users, the ratings of theirs, and the two slices that are with it.

    Items are cut into 2n slices. In round j worker w visits slices 2c and 2c + 1 with c = w - j (mod n); while it
    visits one, the other is on its way to w + 1. No two workers write to one row, so an iteration's result is that
    of visiting one pair (worker, slice) after the other, to the same bits on every transport. An iteration sends
    2n messages a worker, of one slice each: the items once round the ring. AdaGrad's sums travel with their rows.

    Reference: Zhang, Peng, Qiu, Model rotation (Harp), 2016.
    """

    def __init__(self, rank: int, size: int, ratings: Ratings, n_components: int, l2: float, seed: int) -> None:
        self.rank, self.size, self.l2, self.seed = rank, size, l2, seed
        n, items = ratings.shape
        self.first, self.last = n * rank // size, n * (rank + 1) // size
        self.cuts = [items * s // (2 * size) for s in range(2 * size + 1)]
        self.users = _drawn(n, n_components, seed)
        self.users.rows = self.users.rows[self.first : self.last]
        self.users.squares = np.ones(self.last - self.first, np.float32)
        self.grids = [self._grid(ratings, s) for s in range(2 * size)]
        self.here = [Slice(self, 2 * rank + k, n_components) for k in (0, 1)]
        self.coming: list[Buffer] = [buffers.like(slice_.buffer) for slice_ in self.here]
        self.errors: list[float] = []
        """Of every iteration: the sum of e^2 over this worker's ratings, each before its own update."""

    def iteration(self, rate: float) -> Iterator[Request]:
        """Requests of one iteration; computes between them."""
        moving: list[Exchange | None] = [None, None]
        self.errors.append(0.0)
        for round_ in range(self.size):
            for k in (0, 1):
                yield from self._arrive(moving, k)
                slice_ = 2 * ((self.rank - round_) % self.size) + k
                self.errors[-1] += self.visit(slice_, k, rate)
                if self.size > 1:
                    moving[k] = exchange = self._pass_on(k)
                    yield Start(exchange)
        for k in (0, 1):
            yield from self._arrive(moving, k)

    def visit(self, slice_: int, k: int, rate: float) -> float:
        """Every rating of this worker's users on that slice, which is the k-th here; the sum of e^2."""
        grid = self.grids[slice_]
        if grid is None:
            return 0.0
        items = self.here[k].table(self.cuts[slice_ + 1] - self.cuts[slice_])
        factors = _core.Factors(self.users.native(self.l2, None), items.native(self.l2, None), self.users.rank)
        return factors.hogwild(grid, rate, 1, self.seed + slice_, len(self.errors))

    def _pass_on(self, k: int) -> Exchange:
        after, before = (self.rank + 1) % self.size, (self.rank - 1) % self.size
        return Exchange(sends=[(after, self.here[k].buffer)], recvs=[(before, self.coming[k])], tag=k)

    def _arrive(self, moving: list[Exchange | None], k: int) -> Iterator[Request]:
        if (exchange := moving[k]) is not None:
            yield Wait(exchange)
            self.here[k].buffer, self.coming[k] = self.coming[k], self.here[k].buffer

    def _grid(self, ratings: Ratings, slice_: int) -> _core.RatingGrid | None:
        users, items = (self.first, self.last), (self.cuts[slice_], self.cuts[slice_ + 1])
        inside = (ratings.users >= users[0]) & (ratings.users < users[1])
        inside &= (ratings.items >= items[0]) & (ratings.items < items[1])
        if not inside.any():
            return None
        shape = users[1] - users[0], items[1] - items[0]
        mine = ratings.users[inside] - np.uint32(users[0]), ratings.items[inside] - np.uint32(items[0])
        blocks = max(1, int(inside.sum()) // 4096), 1
        return _core.RatingGrid(*mine, ratings.values[inside], shape, blocks, self.seed + slice_)


class Slice:
    """Some items' rows and their AdaGrad sums in one buffer, which travels as it is."""

    def __init__(self, share: Share, number: int, n_components: int) -> None:
        self.rank, self.length = n_components, -(-n_components // LINE) * LINE
        self.most = max(b - a for a, b in zip(share.cuts, share.cuts[1:], strict=False))
        self.buffer: Buffer = buffers.zeros(self.most * (self.length + 1))
        a, b = share.cuts[number : number + 2]
        table = self.table(b - a)
        table.rows[:] = _drawn(share.cuts[-1], n_components, share.seed + 1).rows[a:b]
        self.buffer[self.most * self.length :] = 1

    def table(self, n: int) -> Table:
        """Its first n rows."""
        flat: Floats = self.buffer.view(np.float32)
        rows = flat[: self.most * self.length].reshape(self.most, self.length)
        squares = flat[self.most * self.length :]
        return Table(rows[:n], self.rank, None, squares[:n])


def _drawn(n: int, rank: int, seed: int) -> Table:
    random, scale = np.random.default_rng(seed), 0.5 / rank**0.5
    return Table.drawn(n, rank, random, bias=False, adagrad=True, half=False, center=0.0, scale=scale)


def rotate(
    on: Transport,
    ratings: Ratings,
    n_components: int = 32,
    *,
    l2: float = 0.05,
    learning_rate: float = 0.1,
    max_iter: int = 20,
    seed: int = 0,
) -> list[Share]:
    """Factorizes ratings (their mean taken off by the caller; no biases) by model rotation between the workers of
    a transport. Every process gives all ratings, and keeps what its workers need; the shares of the workers that
    live here come back. Raises what a transport raises: a worker that failed or is late is named."""
    for name, value in (("n_components", n_components), ("max_iter", max_iter)):
        whole(name, value, most=128 if name == "n_components" else None)
    positive("learning_rate", learning_rate)
    positive("l2", l2, zero=True)
    if ratings.shape[1] < 2 * on.size or ratings.shape[0] < on.size:
        raise ValueError(f"{on.size} workers need {on.size} users and {2 * on.size} items, got {ratings.shape}")
    session = on.open(seed)
    shares = [Share(rank, on.size, ratings, n_components, l2, seed) for rank in session.ranks]
    try:
        session.run([_task(session, share, learning_rate, max_iter) for share in shares])
    except BaseException as error:
        session.leave(error)
        raise
    session.leave(None)
    return shares


def _task(session: Any, share: Share, rate: float, iterations: int) -> Task:
    def script() -> Iterator[Request]:
        for _ in range(iterations):
            yield from share.iteration(rate)

    worker = Worker(
        share.rank, share.size, buffers.zeros(1), lambda name, like: session.share(share.rank, name, like)
    )
    lowered = Lowering(session.native, worker, session.unpriced, grouped=session.grouped).lower(script())
    return Task(worker, session.wrap(worker, lowered), _nothing)


def _nothing(request: Request) -> int:
    raise TypeError(f"a rotation computes between its requests, and asked for {request!r}")
