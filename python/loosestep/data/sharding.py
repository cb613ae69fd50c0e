"""Rows dealt to workers: every epoch anew, each row to one worker; or for good, a fixed part to each."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from loosestep.data.row_counts import pairs_in
from loosestep.foundation import checks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[Any]"
Pair: TypeAlias = "tuple[Array, Array]"


def shards(
    data: Pair,
    batch: int,
    epochs: int,
    seed: int = 0,
    *,
    by_label: bool = False,
    fraction: float | None = None,
) -> Callable[[int, int], Iterator[Pair]]:
    """Return the `batches` of `loosestep.run`: for each rank, its part of `data` for that many epochs.

    `data` is (rows, labels): arrays, or rows as a scipy CSR matrix. In an epoch each row goes to exactly one
    worker and their numbers differ by at most one. Orders are keyed by (seed, epoch), so they are the same for the
    same seed whichever worker asks.

    by_label: a worker keeps the same rows, dealt in the order of labels, for all epochs: the hard case in which
        workers see different classes.
    fraction: a worker keeps the same rows for all epochs, that fraction of all; an epoch is one pass over them.
        Parts overlap where fraction * size > 1, and together hold every row, so fraction is at least 1 / size.

    >>> rows = np.arange(8.0)[:, None], np.arange(8)
    >>> batches = shards(rows, batch=4, epochs=3, fraction=0.5)
    >>> [len({int(label) for _, y in batches(rank, 2) for label in y}) for rank in range(2)]
    [4, 4]
    """
    x, y = data
    checks.integer("batch", batch)
    checks.integer("epochs", epochs, 0)
    count = pairs_in(data)
    checks.integer("seed", seed, 0)
    if fraction is not None:
        _check_fraction(fraction)

    def batches(rank: int, size: int) -> Iterator[Pair]:
        if not 0 <= rank < size:
            raise ValueError(f"rank must be from 0 to {size - 1}, got {rank}")
        kept = _kept_rows(y, rank, size, seed, by_label, fraction)
        for epoch in range(epochs):
            own = _rows_of_epoch(count, rank, size, (seed, epoch), kept)
            for start in range(0, len(own), batch):
                rows = own[start : start + batch]
                yield x[rows], y[rows]

    return batches


def _rows_of_epoch(count: int, rank: int, size: int, key: tuple[int, int], kept: Array | None) -> Array:
    """Return the rows of one worker in one epoch, in the order in which it takes them."""
    random = np.random.default_rng(key)
    return random.permutation(count)[rank::size] if kept is None else random.permutation(kept)


def _kept_rows(
    labels: Array, rank: int, size: int, seed: int, by_label: bool, fraction: float | None
) -> Array | None:
    """Return the rows that a worker keeps for all epochs: a window, which may wrap, on an order of all rows."""
    if not by_label and fraction is None:
        return None
    count = len(labels)
    first, last = (count * share // size for share in (rank, rank + 1))
    if fraction is not None:
        _check_fraction(fraction, size)
        last = first + max(last - first, _part(fraction, count))
    shuffled = np.random.default_rng((seed, 0, 1)).permutation  # a stream that no epoch has
    order = np.argsort(labels, kind="stable") if by_label else shuffled(count)
    return order[np.arange(first, last) % count]


def _check_fraction(fraction: float, size: int | None = None) -> None:
    """Refuse a fraction that is not in (0, 1], or too small for that many workers to hold every row."""
    checks.positive("fraction", fraction)
    if fraction > 1:
        raise ValueError(f"fraction must be at most 1, got {fraction!r}")
    if size is not None and fraction * size < 1 - 1e-9:
        raise ValueError(f"fraction must be at least 1/{size}, or nobody sees some rows, got {fraction!r}")


def steps_per_epoch(rows: int, batch: int, size: int, fraction: float | None = None) -> int:
    """Return the batches of the worker that has most."""
    if fraction is not None:
        _check_fraction(fraction)
    dealt = ceil(rows / size)
    return ceil((dealt if fraction is None else max(dealt, _part(fraction, rows))) / batch)


def _part(fraction: float, rows: int) -> int:
    """Return so many rows, rounded up; 0.1 of 30 are 3, whatever 0.1 * 30 is."""
    return ceil(fraction * rows - 1e-9)
