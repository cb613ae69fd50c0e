"""Whether a scipy matrix is well formed: looked at before scipy indexes it, which does not look."""

from __future__ import annotations

from typing import Any

import scipy.sparse as sp
from numpy.typing import NDArray

COMPRESSED = ("csr", "csc", "bsr")
"""Formats of `indptr` and `indices`."""


def sound(X: Any, name: str = "X") -> Any:
    """X itself; ValueError for a matrix whose places lie outside of its shape, or whose rows begin nowhere.

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
    """Rows of CSR, columns of CSC, rows of blocks of BSR."""
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
