"""Model rotation between workers: users stay, slices of the items go round a ring, over any transport."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from loosestep import _core
from loosestep.foundation import buffers, checks
from loosestep.foundation.errors import Diverged
from loosestep.lowering.lowering import Lowering
from loosestep.requests import AllGather, Buffer, Exchange, Request, Start, Wait
from loosestep.requests.worker import Worker
from loosestep.sparse.factor_table import Table
from loosestep.sparse.matrix_factorization import MatrixFactorization
from loosestep.sparse.parameters import generator
from loosestep.sparse.ratings import Floats, Ratings, read
from loosestep.transports.base import Task, Transport


def rotate(
    on: Transport,
    X: Any,
    y: Any = None,
    n_components: int = 32,
    *,
    fit_intercept: bool = True,
    l2: float = 0.1,
    learning_rate: float = 0.1,
    max_iter: int = 20,
    rotation_order: Literal["ring", "permutation"] = "ring",
    rotation_seconds: float | None = None,
    shape: tuple[int, int] | None = None,
    seed: int = 0,
) -> MatrixFactorization:
    """Factorize ratings by model rotation between a transport's workers; return the estimator in every process.

    X, y and options as of `MatrixFactorization` with schedule "adagrad", l2_scale "rating" and explicit feedback.
    Every process gives all ratings, and keeps those of its workers' users. Items are cut into 2n slices. In round
    j of an epoch worker w visits slices 2c and 2c + 1 with c = w - j (mod n); while it visits one, the other is
    on its way to w + 1; in rotation_order "permutation" workers sit round the ring anew in every epoch. No two
    workers write to one row, so an epoch's result is that of visiting one pair (worker, slice) after the other, to
    the same bits on every transport: unless slices are passed on after rotation_seconds, by a worker's own clock.
    Then the ratings that a visit has not reached are where the next visit of that pair begins.

    An epoch sends 2n messages a worker, of one slice each: the items, with their biases and AdaGrad's sums, once
    round the ring. At the end every worker gets all rows.

    Raises ValueError or TypeError for bad input, Diverged where an error is not finite, and what a transport
    raises: a worker that failed or is late is named.

    >>> import loosestep as ls, numpy as np
    >>> pairs = np.array([[u, i] for u in range(20) for i in range(15)])
    >>> ratings = np.outer(np.arange(20) % 4, np.arange(15) % 3).ravel()
    >>> model = rotate(ls.Threads(2), pairs, ratings, 4, l2=0.001, max_iter=60)
    >>> bool(np.abs(model.predict(pairs) - ratings).max() < 0.2)
    True

    Reference: Zhang, Peng, Qiu, Model rotation (Harp), 2016.
    """
    checks.instance("on", on, Transport)
    model = MatrixFactorization(
        n_components, fit_intercept=fit_intercept, l2=l2, learning_rate=learning_rate, max_iter=max_iter,
        algorithm="rotation", rotation_order=rotation_order, rotation_seconds=rotation_seconds, shape=shape,
        random_state=checks.integer("seed", seed, 0),
    )  # fmt: skip
    model._check()
    given = read(X, y, shape)
    if given.shape[1] < 2 * on.size or given.shape[0] < on.size:
        raise ValueError(f"{on.size} workers need {on.size} users and {2 * on.size} items, got {given.shape}")
    with model._room(given.shape):
        start = Beginning.of(model, given)
    found = _carried_out(on, start, model)
    errors = np.sqrt(found.all_errors[:, 0] / np.maximum(found.all_errors[:, 1], 1)).tolist()
    return model._taken((found.all_users, found.all_items), start.mean, given.shape, errors, seed)


def _carried_out(on: Transport, start: Beginning, model: MatrixFactorization) -> Share:
    """Return one of the shares, after it has gathered what all have found."""
    session = on.open(start.seed)
    shares = [Share(rank, on.size, start) for rank in session.ranks]
    try:
        session.run([_task(session, share, model.learning_rate, model.max_iter) for share in shares])
    except BaseException as error:
        session.leave(error)
        raise
    session.leave(None)
    return shares[0]


@dataclass(frozen=True)
class Beginning:
    """The initial model of all workers, the same in every process."""

    ratings: Ratings
    """Ratings minus their mean."""
    mean: float
    tables: tuple[Table, Table]
    l2: float
    order: str
    seconds: float
    seed: int

    @classmethod
    def of(cls, model: MatrixFactorization, ratings: Ratings) -> Beginning:
        mean, tables = model._mean(ratings), model._begun(ratings, generator(model.random_state))
        less = replace(ratings, values=ratings.values - np.float32(mean))
        seconds = np.inf if model.rotation_seconds is None else model.rotation_seconds
        return cls(less, mean, tables, model.l2, model.rotation_order, seconds, model.random_state)


class Share:
    """One worker's part of a rotation: its users, their ratings, and the two slices that it holds at present."""

    def __init__(self, rank: int, size: int, start: Beginning) -> None:
        self.rank, self.size, self.l2 = rank, size, start.l2
        self.order, self.seconds, self.seed = start.order, start.seconds, start.seed
        users, items = start.tables
        n, count = start.ratings.shape
        self.user_cuts = [n * s // size for s in range(size + 1)]
        self.cuts = [count * s // (2 * size) for s in range(2 * size + 1)]
        self.users = Bundle(users, self.user_cuts, rank)
        self.here = [Bundle(items, self.cuts, 2 * rank + k) for k in (0, 1)]
        self.coming: list[Buffer] = [buffers.like(bundle.buffer) for bundle in self.here]
        self.visits = [self._visits(start.ratings, s) for s in range(2 * size)]
        self.errors: list[Any] = []
        """Of every epoch: the sum of e^2 over the ratings visited, before their updates, and their number."""

    def epoch(self, rate: float) -> Iterator[Request]:
        """Yield the requests of one epoch; compute between them."""
        moving: list[Exchange | None] = [None, None]
        ring = self.ring(len(self.errors))
        self.errors.append(np.zeros(2))
        for round_ in range(self.size):
            for k in (0, 1):
                yield from self._arrive(moving, k)
                self.errors[-1] += self.visit(2 * self.before(ring, round_) + k, k, rate)
                if self.size > 1:
                    moving[k] = exchange = self._pass_on(ring, k)
                    yield Start(exchange)
        for k in (0, 1):
            yield from self._arrive(moving, k)

    def ring(self, epoch: int) -> list[int]:
        """The ranks in their order round the ring."""
        if self.order == "ring":
            return list(range(self.size))
        order: list[int] = np.random.default_rng([self.seed, epoch]).permutation(self.size).tolist()
        return order

    def before(self, ring: list[int], places: int) -> int:
        """Return the rank that is so many places before this one."""
        return ring[(ring.index(self.rank) - places) % self.size]

    def visit(self, slice_: int, k: int, rate: float) -> Any:
        """Train on the ratings of this worker's users in that slice, the k-th in this place; see `errors`."""
        visits = self.visits[slice_]
        if visits is None:
            return np.zeros(2)
        users = self.users.table(_length(self.user_cuts, self.rank))
        items = self.here[k].table(_length(self.cuts, slice_))
        factors = _core.Factors(users.native(self.l2, None), items.native(self.l2, None), users.rank)
        squares, count = factors.rotate(visits, rate)
        return np.array([self._finite(squares), count])

    def gather(self) -> Iterator[Request]:
        """Gather all workers' rows and errors; the slices are at home after an epoch."""
        users = yield from self._gathered(self.users.buffer)
        first = yield from self._gathered(self.here[0].buffer)
        second = yield from self._gathered(self.here[1].buffer)
        errors = yield from self._gathered(np.ravel(self.errors))
        self.all_errors = errors.sum(axis=0).reshape(-1, 2)
        slices = [piece for pair in zip(first, second, strict=True) for piece in pair]
        self.all_users = self.users.joined(users, self.user_cuts)
        self.all_items = self.here[0].joined(slices, self.cuts)

    def _gathered(self, piece: Buffer) -> Any:
        out = buffers.zeros(self.size * piece.size, piece.dtype)
        yield AllGather(piece, out)
        return out.reshape(self.size, -1)

    def _finite(self, squares: float) -> float:
        if not np.isfinite(squares):
            raise Diverged(self.rank, len(self.errors), squares)
        return squares

    def _pass_on(self, ring: list[int], k: int) -> Exchange:
        after, before = self.before(ring, -1), self.before(ring, 1)
        return Exchange(sends=[(after, self.here[k].buffer)], recvs=[(before, self.coming[k])], tag=k)

    def _arrive(self, moving: list[Exchange | None], k: int) -> Iterator[Request]:
        if (exchange := moving[k]) is not None:
            yield Wait(exchange)
            self.here[k].buffer, self.coming[k] = self.coming[k], self.here[k].buffer

    def _visits(self, ratings: Ratings, slice_: int) -> _core.Rotation | None:
        """Return the visits of one worker to one slice, which remember the cells that a visit has left."""
        users, items = self.user_cuts[self.rank : self.rank + 2], self.cuts[slice_ : slice_ + 2]
        inside = (ratings.users >= users[0]) & (ratings.users < users[1])
        inside &= (ratings.items >= items[0]) & (ratings.items < items[1])
        if not inside.any():
            return None
        shape = users[1] - users[0], items[1] - items[0]
        mine = ratings.users[inside] - np.uint32(users[0]), ratings.items[inside] - np.uint32(items[0])
        blocks = max(1, int(inside.sum()) // 4096), 1
        seed = self.seed + 2 * self.size * self.rank + slice_
        grid = _core.RatingGrid(*mine, ratings.values[inside], shape, blocks, seed)
        return _core.Rotation(grid, 1, seconds=self.seconds, seed=seed)


class Bundle:
    """Rows, their AdaGrad sums and biases in one buffer that is sent as it is; all of a side are of one length."""

    def __init__(self, table: Table, cuts: list[int], number: int) -> None:
        self.rank, self.length, self.bias = table.rank, table.rows.shape[1], table.bias is not None
        self.most = max(b - a for a, b in pairwise(cuts))
        self.buffer: Buffer = buffers.zeros(self.most * (self.length + 2))
        self.table(_length(cuts, number)).rows[:] = table.rows[cuts[number] : cuts[number + 1]]
        self._parts(self.buffer)[1][:] = 1

    def table(self, n: int) -> Table:
        """Return its first n rows."""
        rows, squares, bias = self._parts(self.buffer)
        return Table(rows[:n], self.rank, bias[:n] if self.bias else None, squares[:n])

    def joined(self, parts: Any, cuts: list[int]) -> Table:
        """Return the table of all bundles of this side, given their buffers."""
        ends = [_length(cuts, number) for number in range(len(cuts) - 1)]
        each = [[array[:n] for array in self._parts(part)] for part, n in zip(parts, ends, strict=True)]
        rows, squares, bias = (np.concatenate(arrays) for arrays in zip(*each, strict=True))
        return Table(rows, self.rank, bias if self.bias else None, squares)

    def _parts(self, buffer: Buffer) -> tuple[Floats, Floats, Floats]:
        flat: Floats = buffer.view(np.float32)
        rows, squares, bias = np.split(flat, [self.most * self.length, self.most * (self.length + 1)])
        return rows.reshape(self.most, self.length), squares, bias


def _length(cuts: list[int], number: int) -> int:
    return cuts[number + 1] - cuts[number]


def _task(session: Any, share: Share, rate: float, epochs: int) -> Task:
    def script() -> Iterator[Request]:
        for _ in range(epochs):
            yield from share.epoch(rate)
        yield from share.gather()

    worker = Worker(
        share.rank, share.size, buffers.zeros(1), lambda name, like: session.share(share.rank, name, like)
    )
    worker.links = session.links
    lowered = Lowering(
        session.native, worker, session.unpriced, grouped=session.grouped, hosts=session.hosts
    ).lower(script())
    return Task(worker, session.wrap(worker, lowered), _nothing)


def _nothing(request: Request) -> int:
    raise TypeError(f"a rotation computes between its requests, and asked for {request!r}")
