"""Weights of rows and other numbers of users, as the engines want them: float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import _check_sample_weight


def row_weights(given: Any, X: Any) -> NDArray[np.float64] | None:
    """A weight for each row, at least 0, and above 0 for some; None where none are given."""
    if given is None:
        return None
    checked = _check_sample_weight(given, X, dtype=np.float64, ensure_non_negative=True)
    return np.asarray(checked, np.float64)


def narrowed(name: str, values: NDArray[Any]) -> NDArray[np.float32]:
    """Numbers as float32, in which the engines count; ValueError where it does not hold them."""
    with np.errstate(over="ignore"):
        narrow: NDArray[np.float32] = np.ascontiguousarray(values, np.float32)
    if not np.isfinite(narrow).all():
        values, row = np.ravel(values), int(np.argmin(np.isfinite(narrow.ravel())))
        raise ValueError(
            f"{name} must hold numbers that float32 can, got {values[row]!s} in row {row}: scale them"
        )
    return narrow


def narrowed_weights(values: NDArray[np.float64] | None) -> NDArray[np.float32] | None:
    """Weights of rows as float32; ValueError where all of them are 0 there."""
    if values is None:
        return None
    weights = narrowed("sample_weight", values)
    if not weights.any():
        most = float(values.max(initial=0.0))
        what = f"the largest is {most:g}, which is 0 in float32: scale them" if most else "all are 0"
        raise ValueError(f"sample_weight must hold a weight above 0: {what}")
    return weights
