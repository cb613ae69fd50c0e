"""What the tests of the papers share: a quadratic for every worker, a recorder of runs, stability in two columns.

The references in the tests are written from the papers' recursions in plain numpy, none from the library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat
from math import inf, pi, sin
from typing import Any

import numpy as np
from numpy.typing import NDArray

import loosestep as ls

Array = NDArray[np.float64]
EQUAL = 1e-12  # "equal": the largest absolute difference after tens of steps
RATE = 0.3


@dataclass(frozen=True)
class Quadratics:
    """Worker i has f_i(x) = 1/2 (x - b_i)^T A_i (x - b_i), A_i diagonal with entries in [0.2, 1]."""

    curvatures: Array  # a row a worker
    minima: Array
    start: Array

    @property
    def workers(self) -> int:
        return len(self.minima)

    def gradient(self, x: Array, rank: int) -> Array:
        return self.curvatures[rank] * (x - self.minima[rank])

    def gradients(self, points: Array) -> Array:
        """Of all workers, each at its own row."""
        return self.curvatures * (points - self.minima)

    def starts(self) -> Array:
        """Everybody at the start: a row a worker."""
        return np.tile(self.start, (self.workers, 1))


def quadratics(workers: int = 4, size: int = 5, *, alike: bool = False) -> Quadratics:
    """A fixed random problem; `alike`: one A for all workers, b_i still differ."""
    rng = np.random.default_rng(7)
    curvatures = rng.uniform(0.2, 1, (workers, size))
    if alike:
        curvatures = np.tile(curvatures[0], (workers, 1))
    return Quadratics(curvatures, rng.normal(size=(workers, size)), rng.normal(size=size))


def homogeneous(curvatures: Array, workers: int, *, spread: float = 0.0) -> Quadratics:
    """The same curvatures for all workers, from 1; minima at 0, or `spread` apart from worker to worker."""
    offsets = spread * np.arange(workers) * (-1.0) ** np.arange(workers)
    minima = np.tile(offsets[:, None], (1, len(curvatures)))
    return Quadratics(np.tile(curvatures, (workers, 1)), minima, np.ones(len(curvatures)))


@dataclass(frozen=True)
class Trace:
    """A run: `points[i][k]` is where worker i took its gradient k; `centers[k]` the consensus after step k + 1."""

    points: list[Array]
    replicas: Array
    center: Array
    centers: Array
    result: ls.Result


def trace(
    strategy: ls.Strategy,
    problem: Quadratics,
    steps: int,
    *,
    on: ls.Simulated | ls.Threads | ls.Serial | None = None,
    optimizer: Any = None,
    every: int | None = None,
) -> Trace:
    """Run through the public API and record."""
    seen: list[list[Array]] = [[] for _ in range(problem.workers)]
    centers: list[Array] = []

    def gradient(x: Array, rank: int) -> Array:
        seen[rank].append(x.copy())
        return problem.gradient(x, rank)

    def evaluate(x: Array) -> float:
        centers.append(x.copy())
        return 0.0

    result = ls.run(
        strategy,
        gradient,
        problem.start,
        rank_forever,
        optimizer=ls.SGD(RATE) if optimizer is None else optimizer,
        steps=steps,
        on=in_turn(problem.workers) if on is None else on,
        evaluate=evaluate,
        every=every,
    )
    replicas = np.array([worker.params for worker in result.workers])
    return Trace([np.array(points) for points in seen], replicas, result.params, np.array(centers), result)


def rank_forever(rank: int, size: int) -> Iterator[int]:
    """Batches that say whose they are."""
    return repeat(rank)


def in_turn(workers: int) -> ls.Simulated:
    """All compute for a second, messages take no time: in every second they meet the center in rank order."""
    return ls.Simulated(workers, step_time=1.0, latency=0.0, bandwidth=inf)


def all_at_once(workers: int, size: int) -> ls.Simulated:
    """A push of `size` values takes its sender a second, so all pushes land before the first pull is read."""
    return ls.Simulated(workers, step_time=1.0, latency=0.0, bandwidth=8.0 * size, center_bandwidth=inf)


def difference(one: Array, other: Array) -> float:
    """Largest absolute difference; shapes must agree."""
    assert one.shape == other.shape
    return float(np.abs(one - other).max())


# --- stability -----------------------------------------------------------------------------------------------


def around(limit: float) -> Array:
    """Two curvatures for eta = 1: 0.98 and 1.02 times the limit. A diagonal quadratic runs both at once."""
    return np.array([0.98, 1.02]) * limit


def falls(path: Array) -> bool:
    """Every column's largest value of the last quarter is well below that of the second quarter, or nothing."""
    quarter = len(path) // 4
    early, late = np.abs(path[quarter : 2 * quarter]).max(axis=0), np.abs(path[-quarter:]).max(axis=0)
    return bool((late < np.maximum(0.8 * early, 1e-100)).all())


def growth(path: Array) -> Array:
    """Per column: the largest value of the last quarter by that of the second quarter."""
    quarter = len(path) // 4
    early, late = np.abs(path[quarter : 2 * quarter]), np.abs(path[-quarter:])
    return np.asarray(late.max(axis=0) / early.max(axis=0))


def changes_sides(path: Array) -> bool:
    """Column 0, just inside the limit, falls; column 1, just outside, grows."""
    inside, outside = growth(path)
    return bool(inside < 0.8 and outside > 1.25)


def delay_limit(delay: int) -> float:
    """SGD whose gradients are `delay` updates old is stable iff eta h is below this."""
    return 2 * sin(pi / (2 * (2 * delay + 1)))


def sgd(problem: Quadratics, rank: int, steps: int, rate: float = RATE) -> Array:
    """Where one worker alone takes its gradients, and where it ends: steps + 1 rows."""
    path = [problem.start]
    for _ in range(steps):
        path.append(path[-1] - rate * problem.gradient(path[-1], rank))
    return np.array(path)


def look_ahead(gradient: Callable[[Array], Array], start: Array, steps: int, rate: float, mu: float) -> Array:
    """MSGD: v <- mu v - eta g(x + mu v), x <- x + v; the points x + mu v, steps + 1 rows."""
    x, v, points = start.copy(), np.zeros_like(start), []
    for _ in range(steps):
        points.append(x + mu * v)
        v = mu * v - rate * gradient(x + mu * v)
        x = x + v
    return np.array([*points, x + mu * v])
