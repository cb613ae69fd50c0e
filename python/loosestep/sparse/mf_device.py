"""Epochs of a matrix factorization on a GPU, by the Hogwild kernels of `loosestep.cuda`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from loosestep.cuda import hogwild
from loosestep.cuda.launch import cupy

if TYPE_CHECKING:
    from loosestep.sparse.factor_table import Table
    from loosestep.sparse.ratings import Floats, Ratings

Visit: TypeAlias = Callable[[float, int], tuple[float, int]]
"""Rate and number of an epoch to its sum of squared errors and how many ratings it visited."""

WARPS = 1024
"""The default number of warps that take ratings at once."""
NEEDED = {
    "schedule": "backoff",
    "algorithm": "hogwild",
    "dtype": "float32",
    "feedback": "explicit",
    "l2_scale": "rating",
}
"""Options that device='cuda' leaves no choice of, and what they must be."""


def check_options(options: Any) -> None:
    """Refuse what the kernels of a GPU do not have."""
    for name, wanted in NEEDED.items():
        if getattr(options, name) != wanted:
            raise ValueError(f"device='cuda' needs {name}={wanted!r}, got {getattr(options, name)!r}")


def visitor(options: Any, tables: tuple[Table, Table], ratings: Ratings, values: Floats, seed: int) -> Visit:
    """Return the function that makes an epoch: it visits all ratings on the GPU and brings the factors back.

    The ratings are shuffled once and stay in the GPU's memory, as do the factors and biases.
    """
    order = np.random.default_rng(seed).permutation(len(ratings))
    packed = np.empty((len(ratings), 4), np.uint32)
    packed[:, 0], packed[:, 1] = ratings.users[order], ratings.items[order]
    packed[:, 2] = values[order].astype(np.float32).view(np.uint32)
    packed[:, 3] = np.ones(len(ratings), np.float32).view(np.uint32)
    there = cupy().asarray(packed)
    users, items = (side(table, options.l2) for table in tables)
    warps = WARPS if options.n_threads in (None, -1) else options.n_threads

    def visit(rate: float, epoch: int) -> tuple[float, int]:
        squares = hogwild.factors(users, items, there, rate=rate, adds=options.adds, warps=warps)
        for table, each in zip(tables, (users, items), strict=True):
            table.rows[...] = cupy().asnumpy(each.rows)
            if table.bias is not None:
                table.bias[...] = cupy().asnumpy(each.bias)
        return squares, len(ratings)

    return visit


def side(table: Table, l2: float) -> hogwild.Side:
    """Return a table's rows and biases in the GPU's memory."""
    return hogwild.Side(
        cupy().asarray(table.rows), None if table.bias is None else cupy().asarray(table.bias), float(l2)
    )
