"""Values, workers and folds that unit tests share: no sum of these numbers is exact, so orders differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import settings
from numpy.typing import NDArray

from loosestep.requests import Buffer, Shared
from loosestep.requests.worker import Worker

Values = NDArray[Any]

drawn = settings(max_examples=60, derandomize=True, database=None, deadline=None)
"""For what hypothesis draws: the same examples in every run."""


def beginning(rank: int, size: int = 6, dtype: Any = np.float64) -> Values:
    """What a worker begins with: of another magnitude on each, so that every order of a sum has other bits."""
    return np.random.default_rng(rank).standard_normal(size).astype(dtype) * dtype(10.0 ** (rank % 5))


def beginnings(n: int, size: int = 6, dtype: Any = np.float64) -> list[Values]:
    return [beginning(rank, size, dtype) for rank in range(n)]


def no_variable(name: str, like: Buffer) -> Shared:
    raise AssertionError(f"nobody shares {name}")


def worker(rank: int, size: int, params: Any = None) -> Worker:
    """A worker that shares nothing."""
    return Worker(rank, size, np.zeros(2) if params is None else params, no_variable)


def workers(size: int) -> list[Worker]:
    return [worker(rank, size) for rank in range(size)]


def reduced(op: str, parts: Sequence[Values], weights: Sequence[float] | None = None) -> Values | None:
    """The reduction as the documentation says it, in numpy: a left fold in rank order; None without any weight."""
    if op != "mean":
        function = {"sum": np.add, "max": np.maximum, "min": np.minimum}[op]
        total = parts[0].copy()
        for part in parts[1:]:
            total = function(total, part)
        return total
    weights = [1.0] * len(parts) if weights is None else weights
    if not any(weights):
        return None
    if len(set(weights)) == 1:
        return reduced("sum", parts) / parts[0].dtype.type(len(parts))
    kept = [(weight, part) for weight, part in zip(weights, parts, strict=True) if weight]
    total = kept[0][0] * kept[0][1]
    for weight, part in kept[1:]:
        total = total + weight * part
    return total / sum(weight for weight, _ in kept)


def bits(values: Any) -> list[bytes]:
    """To compare to the last bit."""
    return [np.asarray(each).tobytes() for each in values]
