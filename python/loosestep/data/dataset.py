"""Data sets in memory, and checks of what they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[Any]"
Parts: TypeAlias = "tuple[Array, Array, Array, Array]"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows of float32 features and int64 labels, for training and for testing. Checked when made.

    `name` is the name or the file it came from; errors begin with it.
    """

    name: str
    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            rows = self._features(f"x_{part}")
            labels = self._labels(f"y_{part}")
            if len(rows) != len(labels):
                raise self._error(f"x_{part} has {len(rows)} rows but y_{part} has {len(labels)}")
        if self.x_train.shape[1] != self.x_test.shape[1]:
            widths = f"{self.x_train.shape[1]} features but x_test has {self.x_test.shape[1]}"
            raise self._error(f"x_train has {widths}")
        if self.classes > len(self.y_train) + len(self.y_test):
            raise self._error(f"label {self.classes - 1} is more than there are rows; number labels from 0")

    @property
    def features(self) -> int:
        """The number of features of a row."""
        return int(self.x_train.shape[1])

    @property
    def classes(self) -> int:
        """One more than the greatest label."""
        return int(max(self.y_train.max(), self.y_test.max())) + 1

    @property
    def train(self) -> tuple[Array, Array]:
        """Features and labels of the training rows."""
        return self.x_train, self.y_train

    @property
    def test(self) -> tuple[Array, Array]:
        """Features and labels of the test rows."""
        return self.x_test, self.y_test

    def __str__(self) -> str:
        rows = f"{len(self.y_train)} + {len(self.y_test)} rows"
        return f"{self.name} ({rows} of {self.features} features, {self.classes} classes)"

    def _features(self, field: str) -> Array:
        rows = np.asarray(getattr(self, field))
        if rows.dtype.kind not in "fiub":
            raise self._error(f"{field} must hold numbers, got dtype {rows.dtype}")
        if rows.ndim < 2 or rows.size == 0:
            raise self._error(f"{field} must be at least one row of features, got shape {rows.shape}")
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as that
            rows = np.ascontiguousarray(rows.reshape(len(rows), -1), dtype=np.float32)
        self._finite(field, rows)
        object.__setattr__(self, field, rows)
        return rows

    def _finite(self, field: str, rows: Array) -> None:
        bad = ~np.isfinite(rows)
        count = int(bad.sum())
        if count:
            first = int(bad.any(axis=1).argmax())
            values = "1 value that is" if count == 1 else f"{count} values that are"
            raise self._error(f"{field} holds {values} not finite (NaN or infinite), first in row {first}")

    def _labels(self, field: str) -> Array:
        labels = np.asarray(getattr(self, field))
        if labels.ndim != 1 or labels.size == 0:
            raise self._error(f"{field} must be one label a row, got shape {labels.shape}")
        if labels.dtype.kind not in "iuf" or _odd(labels).any():
            raise self._error(f"{field} must hold whole numbers, got {_odd_one(labels)}")
        if labels.min() < 0:
            row = int((labels < 0).argmax())
            raise self._error(f"{field} must hold labels from 0 on, got {labels[row]} in row {row}")
        labels = np.ascontiguousarray(labels, dtype=np.int64)
        object.__setattr__(self, field, labels)
        return labels

    def _error(self, what: str) -> ValueError:
        return ValueError(f"{self.name}: {what}")


def _odd(labels: Array) -> NDArray[np.bool_]:
    whole: NDArray[np.bool_] = np.isfinite(labels) & (np.floor(labels) == labels)
    return ~whole


def _odd_one(labels: Array) -> str:
    if labels.dtype.kind != "f":
        return f"dtype {labels.dtype}"
    row = int(_odd(labels).argmax())
    return f"{labels[row]} in row {row}"


def standardized(x_train: Array, x_test: Array) -> tuple[Array, Array]:
    """Return both with the one shift and scale that give the training rows mean 0 and variance 1."""
    mean, spread = np.float32(x_train.mean(dtype=np.float64)), np.float32(x_train.std(dtype=np.float64))
    train, test = ((x.astype(np.float32) - mean) / spread for x in (x_train, x_test))
    return train, test


def split(x: Array, y: Array, test_share: float = 0.2) -> Parts:
    """Deal rows to training and test data, the same always, each label in proportion."""
    random = np.random.default_rng(20_240_101)  # a constant: a run's seed must not change what is tested
    order = random.permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    turn = np.floor(np.arange(1, len(y) + 1) * test_share) > np.floor(np.arange(len(y)) * test_share)
    test, train = np.sort(order[turn]), np.sort(order[~turn])
    return x[train], y[train], x[test], y[test]
