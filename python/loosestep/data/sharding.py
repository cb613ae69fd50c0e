"""How rows are dealt to workers: every epoch anew, each row to one worker, as evenly as can be."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from loosestep.errors import whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[Any]"
Pair: TypeAlias = "tuple[Array, Array]"


def shards(
    data: Pair, batch: int, epochs: int, seed: int = 0, *, by_label: bool = False
) -> Callable[[int, int], Iterator[Pair]]:
    """The `batches` of `loosestep.run`: for each rank, its part of `data` for that many epochs.

    In an epoch each row goes to exactly one worker and their numbers differ by at most one. Orders are keyed
    by (seed, epoch), so they are the same for the same seed whichever worker asks. With `by_label` a worker
    keeps the same rows, dealt in the order of labels, for all epochs: the hard case in which workers see
    different classes.
    """
    x, y = data
    whole("batch", batch)
    whole("epochs", epochs, 0)
    if len(x) != len(y) or not len(y):
        raise ValueError(f"data must be as many rows as labels, at least one, got {len(x)} and {len(y)}")

    def batches(rank: int, size: int) -> Iterator[Pair]:
        if not 0 <= rank < size:
            raise ValueError(f"rank must be from 0 to {size - 1}, got {rank}")
        for epoch in range(epochs):
            own = _own_rows(y, rank, size, (seed, epoch), by_label)
            for start in range(0, len(own), batch):
                rows = own[start : start + batch]
                yield x[rows], y[rows]

    return batches


def _own_rows(labels: Array, rank: int, size: int, key: tuple[int, int], by_label: bool) -> Array:
    """The rows of one worker in one epoch, in the order in which it takes them."""
    random = np.random.default_rng(key)
    if not by_label:
        return random.permutation(len(labels))[rank::size]
    first, last = (len(labels) * share // size for share in (rank, rank + 1))
    return random.permutation(np.argsort(labels, kind="stable")[first:last])


def steps_per_epoch(rows: int, batch: int, size: int) -> int:
    """Batches of the worker that has the most."""
    return ceil(ceil(rows / size) / batch)
