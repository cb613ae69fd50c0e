"""Trains a matrix factorization by the native engine: layout of ratings, and threads that visit them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from loosestep import _core
from loosestep.sparse import mf_device
from loosestep.sparse.factor_table import Table
from loosestep.sparse.mf_device import Visit
from loosestep.sparse.parameters import threads
from loosestep.sparse.ratings import Floats, Ratings

USER_BYTES, ITEM_BYTES = 128 << 10, 512 << 10
"""Factors that a cell of the grid touches: together below a second-level cache."""

LEAST = 2_000
"""Ratings that a cell should have, so that its rows are used again before they leave the cache."""


@dataclass(frozen=True)
class Training:
    users: Table
    items: Table
    visit: Visit

    @classmethod
    def of(cls, options: Any, tables: tuple[Table, Table], ratings: Ratings, mean: float, seed: int) -> Training:
        """Return a training with the estimator's options; lay the ratings out."""
        users, items = tables
        if options.device == "cuda":
            values = ratings.values - np.float32(mean)
            return cls(users, items, mf_device.visitor(options, tables, ratings, values, seed))
        factors = _core.Factors(
            users.native(options.l2, _by_degree(options, ratings.users, len(users.rows))),
            items.native(options.l2, _by_degree(options, ratings.items, len(items.rows))),
            users.rank,
        )
        visits = len(ratings) * (1 + options.n_negatives if options.feedback == "implicit" else 1)
        blocks = grid_blocks(tables, visits, threads(options.n_threads))
        if options.feedback == "implicit":
            visit = _resampled(options, factors, ratings, blocks, seed)
        else:
            values = ratings.values - np.float32(mean)
            grid = _core.RatingGrid(ratings.users, ratings.items, values, ratings.shape, blocks, seed)
            visit = _visitor(options, factors, grid, seed)
        return cls(users, items, visit)

    def epoch(self, rate: float, number: int) -> float:
        """Return the root of the mean squared error, each error before its own update."""
        squares, visits = self.visit(rate, number)
        return float((squares / max(visits, 1)) ** 0.5)

    def error(self, held: Ratings, mean: float) -> float:
        off = held.values - mean - self.users.score(self.items, held.users, held.items)
        return float(np.sqrt(np.mean(off.astype(np.float64) ** 2)))


def _visitor(options: Any, factors: _core.Factors, grid: _core.RatingGrid, seed: int) -> Visit:
    crew = threads(options.n_threads)
    if options.algorithm == "hogwild":
        return lambda rate, epoch: factors.hogwild(grid, rate, crew, seed, epoch, options.adds)
    seconds = float("inf") if options.rotation_seconds is None else float(options.rotation_seconds)
    rotation = _core.Rotation(grid, crew, options.rotation_order, seconds, seed)
    return lambda rate, epoch: factors.rotate(rotation, rate)


def _resampled(options: Any, factors: _core.Factors, seen: Ratings, blocks: tuple[int, int], seed: int) -> Visit:
    """Yield epochs with new pairs that were not seen, drawn evenly for each user as often as it was seen."""
    weights = 1 + np.float32(options.alpha) * seen.values
    pairs = _core.SeenPairs(seen.users, seen.items, weights, seen.shape)

    def visit(rate: float, epoch: int) -> tuple[float, int]:
        grid = pairs.drawn(options.n_negatives, blocks, seed, epoch, threads(options.n_threads))
        return _visitor(options, factors, grid, seed + epoch)(rate, epoch)

    return visit


def grid_blocks(tables: tuple[Table, Table], count: int, workers: int) -> tuple[int, int]:
    """Return how many blocks users and items have: a cell's rows fit in cache, every thread has work."""
    items = _between(2 * workers, tables[1].rows.nbytes / ITEM_BYTES, 4096)
    users = _between(workers, min(tables[0].rows.nbytes / USER_BYTES, count / items / LEAST), 1 << 20)
    return users, items


def _between(least: int, wanted: float, most: int) -> int:
    return int(min(max(least, -(-wanted // 1)), most))


def _by_degree(options: Any, index: Any, n: int) -> Floats | None:
    if options.l2_scale == "rating":
        return None
    degrees = np.bincount(index, minlength=n).clip(1)
    l2_of: Floats = (options.l2 / (2 * degrees)).astype(np.float32)
    return l2_of
