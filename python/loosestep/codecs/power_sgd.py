"""A matrix of low rank."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isqrt, prod
from typing import TYPE_CHECKING

from loosestep import _core, ops
from loosestep.codecs.base import SummedCodec
from loosestep.codecs.top_k import lost
from loosestep.foundation import buffers, checks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from loosestep.requests import Buffer


@dataclass(frozen=True, repr=False)
class PowerSGD(SummedCodec):
    """The values as a matrix M of n x m becomes P P' M: P <- orthonormal(M Q), Q <- M' P, decoded as P Q'.

    Q begins as normal random numbers, the same on all workers. A mean over workers averages M Q and M' P, so that
    it depends on the mean of M alone, and begins with the Q of the mean before (a warm start). It contracts by r/m
    in the mean over seeds: a projection on the range of M Q keeps at least what Q sees. M of rank r or less stays.
    Sums and orthonormal columns are made in double, in one order, so replicas stay alike.

    rank: r, at most the smaller of n and m.
    columns: m; None for the root of d, rounded down. `ErrorFeedback` takes the shape of each tensor, the first
    axis
        against the others, where it knows it; a vector is one column, which is sent whole.
    width: bits of a number in a message: 32 or 64.

    d values take width r (n + m) bits; a mean, r n and then r m values of the parameters' type.

    >>> import numpy as np
    >>> codec = PowerSGD(rank=1)
    >>> x = np.outer([1.0, 2.0, 3.0], [1.0, 0.5, -1.0]).reshape(-1)
    >>> wire, out = np.zeros(codec.words(9)), np.zeros(9)
    >>> codec.encode(x, wire)
    >>> codec.decode(wire, out)
    >>> bool(abs(out - x).max() < 1e-6)
    True

    Reference: T. Vogels, S. P. Karimireddy, M. Jaggi, PowerSGD, arXiv:1905.13727, algorithm 1; both products in
    every step, as in the paper.
    """

    rank: int = 2
    columns: int | None = None
    width: int = 32

    def __post_init__(self) -> None:
        checks.integer("rank", self.rank)
        checks.one_of("width", self.width, (32, 64))
        if self.columns is not None:
            checks.integer("columns", self.columns)

    def shaped(self, shape: tuple[int, ...]) -> PowerSGD:
        return replace(self, columns=max(1, prod(shape[1:])))

    def matrix(self, count: int) -> tuple[int, int, int]:
        """Return rows, columns and rank."""
        columns = min(self.columns or max(1, isqrt(count)), max(count, 1))
        rows = -(-count // columns)
        return rows, columns, min(self.rank, rows, columns)

    def bits(self, count: int) -> int:
        rows, columns, rank = self.matrix(count)
        return self.width * rank * (rows + columns)

    def error(self, count: int) -> float:
        _, columns, rank = self.matrix(count)
        return float(1 - rank / columns + 2 * lost(self.width) ** 0.5)

    def encode(self, x: Buffer, wire: Buffer, seed: Sequence[int] = ()) -> None:
        p, q = self.start(x.size, self.key(seed))
        self.left(x, q, p)
        self.right(x, p, q)
        _core.codecs.narrow(p, wire, 0, self.width)
        _core.codecs.narrow(q, wire, p.size * self.width // 8, self.width)

    def decode(self, wire: Buffer, out: Buffer) -> None:
        rows, columns, rank = self.matrix(out.size)
        p, q = (buffers.zeros(size * rank, float) for size in (rows, columns))
        _core.codecs.widen(wire, 0, p, self.width)
        _core.codecs.widen(wire, p.size * self.width // 8, q, self.width)
        if out.size:
            _core.codecs.product(p, q, columns, rank, out)

    def start(self, count: int, key: int) -> tuple[Buffer, Buffer]:
        """Return room for P, and a Q of normal random numbers."""
        rows, columns, rank = self.matrix(count)
        q = buffers.zeros(rank * columns, float)
        ops.normal(q, 1.0, key, 0, 0)
        return buffers.zeros(rank * rows, float), q

    def left(self, x: Buffer, q: Buffer, p: Buffer) -> None:
        """Set P to orthonormal columns with the range of M Q."""
        _, columns, rank = self.matrix(x.size)
        unit = _core.codecs.unit_of(x)
        self.refuse_unless(unit > 0)
        if rank:
            _core.codecs.times(x, columns, rank, unit, q, p)
            _core.codecs.orthonormal(p, rank)

    def right(self, x: Buffer, p: Buffer, q: Buffer) -> None:
        """Set Q to M' P."""
        _, columns, rank = self.matrix(x.size)
        if rank:
            _core.codecs.times_transposed(x, columns, rank, _core.codecs.unit_of(x), p, q)

    def sent(self, count: int) -> tuple[int, ...]:
        rows, columns, rank = self.matrix(count)
        return rank * rows, rank * columns

    def carried(self, count: int) -> int:
        return self.sent(count)[1]

    def mean(self, x: Buffer, out: Buffer, carried: Buffer, seed: Sequence[int]) -> Iterator[Buffer]:
        _, columns, rank = self.matrix(x.size)
        p, q = self.start(x.size, self.key(seed))
        if carried.any():
            q[:] = carried
        self.check_finite(x)
        _core.codecs.times(x, columns, rank, 1.0, q, p)
        yield from self.averaged(p, x)
        _core.codecs.orthonormal(p, rank)
        self.right(x, p, q)
        yield from self.averaged(q, x)
        carried[:] = q
        _core.codecs.product(p, q, columns, rank, out)
        ops.axpy(x, out, -1.0)

    @staticmethod
    def averaged(numbers: Buffer, like: Buffer) -> Iterator[Buffer]:
        """Replace numbers by their mean, as values of the parameters' type."""
        sent = numbers.astype(like.dtype)
        yield sent
        numbers[:] = sent
