"""Gradients of which few rows are not zero, as those of embeddings: found, merged, packed, and averaged."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from loosestep.foundation.buffers import here

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from loosestep.requests.base import Buffer, Group

NUMBER = np.dtype(np.uint32)
"""Of a row, in a message."""
Numbers: TypeAlias = "NDArray[np.intp]"
List: TypeAlias = "tuple[Numbers, Buffer]"  # rows, each once, and their values, (rows, width)


@dataclass(frozen=True, eq=False, slots=True)
class Rows:
    """The gradient of one tensor, row by row: row `rows[k]` gets `values[k]`, and what comes twice is added up.

    The sum of a row is a left fold in the order in which its values come, in the parameters' dtype. The gradient
    function of `run` returns it for a tensor that `sparse` names, in a list with one entry for each of `shapes`.

    Where a strategy averages gradients, a worker sends 8 bytes to each of n - 1 others for each such tensor, and
    8 more. Of R rows of w values of s bytes it then sends what is least: (n-1) k (w s + 4) bytes where each sends
    its list, the longest of k rows after merging; (k + (n-1)/n U) (w s + 4) + 8 (n-1) (n+1) where each row has an
    owner and all have U together; or 2 (n-1)/n R w s, the whole tensor. The means have the same bits.

    rows: k whole numbers, from 0.
    values: k rows like the tensor's, of real numbers; or all of them in one dimension.

    Raises TypeError or ValueError, when it is used, where rows or values do not fit the tensor.

    >>> import loosestep as ls, numpy as np
    >>> words = lambda rank, size: iter([np.array([rank, 2, 2])] * 10)
    >>> gradient = lambda x, batch: [ls.Rows(batch, np.ones((3, 2)))]
    >>> x0, table = np.zeros(20), dict(shapes=[(10, 2)], sparse=[0])
    >>> result = ls.run(ls.AllReduceSGD(), gradient, x0, words, on=ls.Simulated(2), optimizer=ls.SGD(0.1), **table)
    >>> result.params.reshape(10, 2)[:4, 0].round(3).tolist()
    [-0.5, -0.5, -2.0, 0.0]
    """

    rows: Any
    values: Any


class Form(Enum):
    """How the rows of n workers come together, and what a worker sends: k rows, U of all together, of R.

    LISTS: each sends its list to all others, filled up to the longest: (n-1) max(k) rows, in n-1 messages.
    OWNERS: row r is averaged by worker r mod n, which is sent what others have of these rows, and sends all others
        the means: k + (n-1)/n U rows in 2 (n-1) messages, and what tells how many.
    WHOLE: as a dense gradient: 2 (n-1)/n R rows.
    """

    LISTS = "lists"
    OWNERS = "owners"
    WHOLE = "whole"


class RowTensor:
    """A tensor of whose gradient few rows are not zero: its place in the flat gradient, and which rows these are.

    start: of its first value. stop: of the next tensor. count, width: rows, and values of each, of `row_shape`.
    touched: the rows of this worker's gradient that may not be zero, ascending; None where that is to be found.
    filled: the rows of the flat gradient that may not be zero after a mean of rows; None where all may be.
    """

    def __init__(self, start: int, stop: int, shape: Sequence[int]) -> None:
        self.start, self.stop = start, stop
        self.count, self.width = shape[0], prod(shape[1:])
        self.row_shape = tuple(shape[1:])
        self.touched: Numbers | None = None
        self.filled: Numbers | None = None

    def values(self, flat: Buffer) -> Buffer:
        """Return its values in a flat buffer."""
        return flat[self.start : self.start + self.count * self.width]

    def table(self, flat: Buffer) -> Buffer:
        """Return its values in a flat buffer as rows."""
        return self.values(flat).reshape(self.count, self.width)

    def find(self, flat: Buffer) -> Numbers:
        """Return the rows of the gradient that may not be zero; with one pass over it where they are not known."""
        if self.touched is None:
            self.touched = np.flatnonzero(here(self.table(flat)).any(axis=1))
        return self.touched

    def take(self, gradient: Rows, grad: Buffer) -> None:
        """Copy a gradient to its place in the flat one, which holds nothing else of the tensor then.

        Raises TypeError or ValueError where it does not fit the tensor.
        """
        rows, values = np.asarray(gradient.rows), np.asarray(gradient.values)
        if rows.ndim != 1 or (rows.dtype.kind not in "iu" and rows.size):
            raise TypeError(f"rows must be whole numbers in one dimension, got {rows.dtype} of shape {rows.shape}")
        if rows.size and not 0 <= rows.min() <= rows.max() < self.count:
            raise ValueError(
                f"rows must be from 0 to {self.count - 1}, got some from {rows.min()} to {rows.max()}"
            )
        k = rows.size
        fits = values.shape in ((k, *self.row_shape), (k, self.width), (k * self.width,)) or values.size == k == 0
        if not fits or values.dtype.kind not in "fiu":
            raise ValueError(
                f"values must be {k} rows of {self.width} real numbers, got {values.dtype} of shape {values.shape}"
            )
        table = self.table(grad)
        table.fill(0)
        self.add(table, rows.astype(np.intp), values.astype(grad.dtype, copy=False))

    def add(self, table: Buffer, rows: Numbers, values: Buffer) -> None:
        """Add values to rows of a tensor that is zero, in the order in which they come."""
        self.touched = np.unique(rows)
        places = rows[:, None] * self.width + np.arange(self.width)
        np.add.at(table.reshape(-1), places.reshape(-1), values.reshape(-1))

    def row_bytes(self, itemsize: int) -> int:
        """Return the bytes of one row in a message: its values and its number."""
        return self.width * itemsize + NUMBER.itemsize

    def form(self, n: int, longest: int, itemsize: int, *, owners: bool) -> Form:
        """Return the form in which n workers, of whose lists the longest has so many rows, send the fewest bytes.

        owners: whether rows may have owners.
        """
        row, whole = self.row_bytes(itemsize), 2 * (n - 1) * self.count * self.width * itemsize / n
        union = min(self.count, n * longest)  # what all have together, at most
        costs = {
            Form.LISTS: (n - 1) * -(-longest * row // 8) * 8,
            Form.OWNERS: (longest + (n - 1) / n * union) * row + 8 * (n - 1) * (n + 3),
            Form.WHOLE: whole,
        }
        if not owners or n < 3:
            del costs[Form.OWNERS]
        if self.count > 1 << 32 or min(costs.values()) >= whole:
            return Form.WHOLE
        return min(costs, key=costs.__getitem__)

    def rows(self, flat: Buffer) -> List:
        """Return this worker's rows, and their values."""
        rows = self.find(flat)
        return rows, here(self.table(flat)[rows])

    def put(self, flat: Buffer, lists: Sequence[List]) -> None:
        """Set the gradient to rows of which each is in one list, and which are all that are not zero."""
        rows = np.concatenate([rows for rows, _ in lists])
        order = np.argsort(rows)
        self.filled = rows[order]
        self.table(flat)[self.filled] = np.concatenate([values for _, values in lists])[order]

    def mean(self, lists: Sequence[List], weights: Sequence[float], hosts: Sequence[Group] = ()) -> List:
        """Return the mean of all workers' rows: the bits of an `AllReduce` of the whole tensor."""
        union = np.unique(np.concatenate([rows for rows, _ in lists]))
        found: list[Any] = [(np.searchsorted(union, rows), values) for rows, values in lists]
        shape, kind = (union.size, self.width), lists[0][1].dtype
        if 1 < len(hosts) < len(weights):
            of_hosts = [[weights[rank] for rank in host] for host in hosts]
            found = [
                (slice(None), fold([found[rank] for rank in host], mine, shape, kind))
                for host, mine in zip(hosts, of_hosts, strict=True)
            ]
            weights = list(map(sum, of_hosts))
        return union, fold(found, weights, shape, kind)


def fold(parts: Sequence[Any], weights: Sequence[float], shape: tuple[int, int], dtype: Any) -> Buffer:
    """Return the mean of rows, as `ops.mean_of` makes it of whole buffers: what is not there is zero."""
    total = np.zeros(shape, dtype)
    alike = len(set(weights)) == 1
    for (rows, values), weight in zip(parts, weights, strict=True):
        if weight:
            total[rows] += values if alike else float(weight) * values
    if any(weights):
        total /= len(weights) if alike else sum(weights)
    return total


class Packing:
    """How the rows of several tensors lie in one message of 8-byte words: all values first, then all numbers."""

    def __init__(self, tensors: Sequence[tuple[RowTensor, int]], dtype: np.dtype[Any]) -> None:
        self.tensors, self.dtype = tensors, dtype
        self.words = -(-sum(longest * each.row_bytes(dtype.itemsize) for each, longest in tensors) // 8)

    def places(self, message: Buffer) -> list[tuple[Buffer, Any]]:
        """Return where each tensor's values and numbers are in a message."""
        octets, found, begin = message.view(np.uint8), [], 0
        for each, longest in self.tensors:
            end = begin + longest * each.width * self.dtype.itemsize
            found.append(octets[begin:end].view(self.dtype).reshape(longest, each.width))
            begin = end
        numbers = []
        for _, longest in self.tensors:
            end = begin + longest * NUMBER.itemsize
            numbers.append(octets[begin:end].view(NUMBER))
            begin = end
        return list(zip(found, numbers, strict=True))

    def pack(self, message: Buffer, lists: Sequence[List]) -> None:
        """Write a list of each tensor's."""
        for (rows, given), (values, numbers) in zip(lists, self.places(message), strict=True):
            values[: rows.size] = given
            numbers[: rows.size] = rows

    def unpack(self, message: Buffer, counts: Sequence[int]) -> list[List]:
        """Return the rows of each tensor in a message, of which so many are a worker's."""
        return [
            (numbers[:count].astype(np.intp), values[:count])
            for (values, numbers), count in zip(self.places(message), counts, strict=True)
        ]


def dealt(lists: Sequence[List], n: int) -> list[list[List]]:
    """Return for each of n owners the part of every list that it owns."""
    parts: list[list[List]] = [[] for _ in range(n)]
    for rows, values in lists:
        owner = rows % n
        for rank, part in enumerate(parts):
            mine = owner == rank
            part.append((rows[mine], values[mine]))
    return parts
