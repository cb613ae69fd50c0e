"""The rows that contenders train on: a data set by name, and the same made smaller or harder.

"fashion-mnist, pooled" has the mean of every 2 x 2 pixels (196 features, a quarter of the work); "fashion-mnist,
pooled, noisy" has besides that 30 % of the training labels drawn anew from all classes, the same for every seed.
Test rows keep their labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from math import isqrt

import numpy as np

from loosestep.data import Dataset, load

NOISE = 0.3
MADE_UP = "made-up"


@cache
def rows_of(name: str, rows: int | None = None) -> Dataset:
    """Return a data set, or its first rows to train with."""
    base, *changes = name.split(", ")
    whole = made_up() if base == MADE_UP else load(base)
    for change in changes:
        whole = CHANGES[change](whole)
    return replace(whole, name=name, x_train=whole.x_train[:rows], y_train=whole.y_train[:rows])


def made_up() -> Dataset:
    random = np.random.default_rng(0)
    x, y = random.standard_normal((480, 8), np.float32), np.arange(480) % 10
    return Dataset(MADE_UP, x[80:], y[80:], x[:80], y[:80])


def pooled(data: Dataset) -> Dataset:
    """Return square images with the mean of every 2 x 2 pixels."""
    side = isqrt(data.features)

    def small(x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), side // 2, 2, side // 2, 2).mean(axis=(2, 4)).reshape(len(x), -1)

    return replace(data, x_train=small(data.x_train), x_test=small(data.x_test))


def noisy(data: Dataset) -> Dataset:
    """Return the rows with a part of the training labels drawn anew."""
    random = np.random.default_rng(20_240_102)
    anew = random.random(len(data.y_train)) < NOISE
    labels = np.where(anew, random.integers(0, data.classes, len(data.y_train)), data.y_train)
    return replace(data, y_train=labels)


CHANGES: dict[str, Callable[[Dataset], Dataset]] = {"pooled": pooled, "noisy": noisy}
