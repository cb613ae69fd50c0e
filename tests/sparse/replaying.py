"""The linear engine's rule in numpy, example by example, in float32: its specification for one thread."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.sparse.splitmix import Random, shuffled

CHUNK = 256
F = np.float32


def visits(rows: int, seed: int, epoch: int, thread: int, threads: int, chunk: int = CHUNK) -> list[int]:
    """The source's rows in the order in which a thread sees them."""
    laid = shuffled(rows, Random(seed))
    begin, end = rows * thread // threads, rows * (thread + 1) // threads
    order = shuffled(-(-(end - begin) // chunk), Random(seed, epoch, thread))
    places = [i for k in order for i in range(begin + k * chunk, min(end, begin + (k + 1) * chunk))]
    return [laid[i] for i in places]


def dot(weights: NDArray[Any], columns: NDArray[Any], values: NDArray[Any]) -> np.float32:
    """Four running sums."""
    sums = np.zeros(4, F)
    whole = columns.size // 4 * 4
    for k in range(0, whole, 4):
        sums += weights[columns[k : k + 4]] * values[k : k + 4]
    for lane, k in enumerate(range(whole, columns.size)):
        sums[lane] += weights[columns[k]] * values[k]
    return F((sums[0] + sums[1]) + (sums[2] + sums[3]))


def slope(loss: str, p: np.float32, y: np.float32, epsilon: float = 0.1) -> np.float32:
    if loss == "hinge":
        return -y if y * p < 1 else F(0)
    if loss == "squared_hinge":
        return F(-2) * y * (F(1) - y * p) if y * p < 1 else F(0)
    if loss == "huber":
        return F(np.clip(p - y, -F(epsilon), F(epsilon)))
    return p - y  # squared_error


def replay(
    rows: Any, targets: NDArray[Any], loss: str, etas: list[float], seed: int, intercept_step: float = 1.0,
    threads: int = 1,
) -> NDArray[np.float32]:  # fmt: skip
    """Threads one after the other, without regularization; the intercept first. One step size an epoch."""
    weights = np.zeros(rows.shape[1] + 1, F)
    for epoch, eta in enumerate(etas):
        for i in [i for thread in range(threads) for i in visits(rows.shape[0], seed, epoch, thread, threads)]:
            part = slice(rows.indptr[i], rows.indptr[i + 1])
            columns, values = rows.indices[part] + 1, rows.data[part]
            s = slope(loss, F(weights[0] + dot(weights, columns, values)), F(targets[i]))
            if s != 0:
                weights[0] -= F(F(F(eta) * F(intercept_step)) * s)
                for column, value in zip(columns, values, strict=True):
                    weights[column] -= F(F(eta) * s) * value
    return weights
