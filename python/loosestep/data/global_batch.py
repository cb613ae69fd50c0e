"""Global batches: the rows of all workers in a step, divided among them by their fractions without loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from loosestep.data.apportion import apportion
from loosestep.data.row_counts import pairs_in
from loosestep.foundation import checks
from loosestep.foundation.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[Any]"
Pair: TypeAlias = "tuple[Array, Array]"


@dataclass(frozen=True)
class GlobalBatch:
    """One step's rows of all `size` workers; `part` returns one worker's: consecutive rows, in rank order."""

    data: Pair
    rows: Array
    size: int

    def part(self, rank: int, fractions: Sequence[float] | None = None) -> Pair:
        """Return the rows of one worker, in proportion to its fraction; equally many where none are given."""
        mine = part_of(self.rows, rank, self.size, fractions)
        return self.data[0][mine], self.data[1][mine]


def part_of(rows: Array, rank: int, size: int, fractions: Sequence[float] | None) -> Array:
    """Return a worker's rows of a step: consecutive ones, in rank order, as many as its fraction says."""
    counts = apportion(len(rows), [1.0] * size if fractions is None else fractions)
    stop = sum(counts[: rank + 1])
    return rows[stop - counts[rank] : stop]


@dataclass(frozen=True, repr=False)
class GrowingBatch(Value):
    """A batch that grows where a rate would drop: batch * factor^(how many of `at` are not after the epoch).

    Reference: S. Smith, P. Kindermans, C. Ying, Q. Le, Don't Decay the Learning Rate, Increase the Batch Size,
    arXiv:1711.00489, section 3.

    >>> size = GrowingBatch(128, at=(30, 60))
    >>> [size(epoch) for epoch in (0, 29, 30, 60)]
    [128, 128, 640, 3200]
    """

    batch: int = 128
    at: tuple[int, ...] = ()
    factor: float = 5.0

    def __post_init__(self) -> None:
        checks.integer("batch", self.batch)
        checks.positive("factor", self.factor)
        for epoch in self.at:
            checks.integer("at", epoch)

    def __call__(self, epoch: int) -> int:
        return round(self.batch * self.factor ** sum(epoch >= grown for grown in self.at))


def global_batches(
    data: Pair, batch: int | Callable[[int], int], epochs: int, seed: int = 0
) -> Callable[[int, int], Iterator[GlobalBatch]]:
    """Return the `batches` of `loosestep.run` that deal each row of an epoch into exactly one global batch.

    What is left at the end of an epoch is a smaller batch, or, if that were fewer rows than workers, goes to the
    one before. Orders are keyed by (seed, epoch). Shares are the strategy's: `DBS` measures them; else alike.

    batch: rows of all workers together; a number, or a function of the epoch (0, 1, ...) such as `GrowingBatch`.

    >>> rows = np.arange(11.0)[:, None], np.arange(11)
    >>> steps = list(global_batches(rows, batch=4, epochs=1)(0, 2))
    >>> [[len(step.part(rank, (1, 3))[1]) for rank in range(2)] for step in steps]
    [[1, 3], [1, 3], [1, 2]]
    """
    checks.integer("epochs", epochs, 0)
    checks.integer("seed", seed, 0)
    count = pairs_in(data)

    def batches(rank: int, size: int) -> Iterator[GlobalBatch]:
        for epoch in range(epochs):
            for rows in cut(order_of(count, seed, epoch), batch(epoch) if callable(batch) else batch, size):
                yield GlobalBatch(data, rows, size)

    return batches


def order_of(rows: int, seed: int, epoch: int) -> Array:
    """Return the order in which an epoch visits rows."""
    return np.random.default_rng((seed, epoch)).permutation(rows)


def cut(order: Array, batch: int, size: int) -> list[Array]:
    """Return the batches of an epoch, none of fewer rows than workers."""
    if checks.integer("batch", batch) < size or len(order) < size:
        raise ValueError(f"batch and data must be at least a row for each of {size} workers, got {batch}")
    starts = list(range(0, len(order), batch))
    if len(order) - starts[-1] < size and len(starts) > 1:
        starts.pop()
    return np.split(order, starts[1:])
