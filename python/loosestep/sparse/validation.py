"""Checks of users' rows, weights and memory before the engines see them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils.validation import _check_sample_weight

COMPRESSED = ("csr", "csc", "bsr")
"""Formats of `indptr` and `indices`."""


def sound(X: Any, name: str = "X") -> Any:
    """Return X; raise ValueError for a matrix with places outside of its shape, or with invalid row starts.

    A dense array, and formats that scipy checks by itself, pass.
    """
    if sp.issparse(X) and X.format in COMPRESSED:
        _check_starts(X, f"{name} is no well-formed {X.format.upper()} matrix")
    if sp.issparse(X) and X.format == "coo":
        for row, bound in zip((X.row, X.col), X.shape, strict=True):
            _check_places(row, bound, f"{name} is no well-formed COO matrix")
            _same_length(row, X.data, f"{name} is no well-formed COO matrix")
    return X


def _check_starts(X: Any, problem: str) -> None:
    """Check the starts of CSR rows, CSC columns or BSR rows of blocks."""
    dimensions = 3 if X.format == "bsr" else 1
    if X.data.ndim != dimensions or 0 in X.data.shape[1:] or X.indices.ndim != 1:
        raise ValueError(f"{problem}: its data has the shape {X.data.shape}, its indices {X.indices.shape}")
    tall, wide = X.data.shape[1:] or (1, 1)
    major, minor = X.shape[::-1] if X.format == "csc" else X.shape
    starts, count = X.indptr, major // tall
    if starts.dtype.kind not in "iu" or X.indices.dtype.kind not in "iu":
        raise ValueError(f"{problem}: indptr and indices must be integers, got {starts.dtype}, {X.indices.dtype}")
    if starts.shape != (count + 1,):
        raise ValueError(f"{problem}: indptr must have {count + 1} elements, got {starts.size}")
    if starts[0] != 0 or starts[-1] > len(X.indices):
        raise ValueError(
            f"{problem}: indptr must go from 0 to {len(X.indices)}, the number of indices, got {starts[0]} to "
            f"{starts[-1]}"
        )
    falls = starts[1:] < starts[:-1]
    if falls.any():
        row = int(falls.argmax())
        raise ValueError(
            f"{problem}: indptr must not fall, but {starts[row + 1]} follows {starts[row]} at {row + 1}"
        )
    _same_length(X.indices, X.data, problem)
    _check_places(X.indices[: starts[-1]], minor // wide, problem)


def _same_length(places: NDArray[Any], values: NDArray[Any], problem: str) -> None:
    if len(places) != len(values):
        raise ValueError(f"{problem}: {len(places)} indices, but {len(values)} values")


def _check_places(places: NDArray[Any], bound: int, problem: str) -> None:
    if not places.size:
        return
    least, most = places.min(), places.max()
    if least < 0 or most >= bound:
        raise ValueError(f"{problem}: its indices must be in 0 .. {bound - 1}, got {least if least < 0 else most}")


def row_weights(given: Any, X: Any) -> NDArray[np.float64] | None:
    """Return a weight for each row, at least 0, and above 0 for some; None where none are given."""
    if given is None:
        return None
    checked = _check_sample_weight(given, X, dtype=np.float64, ensure_non_negative=True)
    return np.asarray(checked, np.float64)


def narrowed(name: str, values: NDArray[Any]) -> NDArray[np.float32]:
    """Return numbers as float32, which the engines use; ValueError where it does not hold them."""
    with np.errstate(over="ignore"):
        narrow: NDArray[np.float32] = np.ascontiguousarray(values, np.float32)
    if not np.isfinite(narrow).all():
        values, row = np.ravel(values), int(np.argmin(np.isfinite(narrow.ravel())))
        raise ValueError(
            f"{name} must hold numbers that float32 can, got {values[row]!s} in row {row}: scale them"
        )
    return narrow


def narrowed_weights(values: NDArray[np.float64] | None) -> NDArray[np.float32] | None:
    """Return weights of rows as float32; ValueError where all of them are 0 there."""
    if values is None:
        return None
    weights = narrowed("sample_weight", values)
    if not weights.any():
        most = float(values.max(initial=0.0))
        what = f"the largest is {most:g}, which is 0 in float32: scale them" if most else "all are 0"
        raise ValueError(f"sample_weight must hold a weight above 0: {what}")
    return weights


@contextmanager
def room(what: str) -> Iterator[None]:
    """Say of what there is more than memory holds."""
    try:
        yield
    except MemoryError as error:
        raise MemoryError(f"there is not enough memory for {what} ({error})") from error
