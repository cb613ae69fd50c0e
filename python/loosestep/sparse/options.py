"""Options that the estimators share."""

from __future__ import annotations

from math import isfinite
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight

from loosestep import _core
from loosestep.errors import one_of, whole


def threads(n_threads: int | None) -> int:
    """How many are asked for: None is 1, and -1 is one for each processor that this process may use."""
    if n_threads == -1:
        return int(_core.info()["cores"])
    return 1 if n_threads is None else whole("n_threads", n_threads)


def seeded(random_state: Any) -> np.random.RandomState:
    """The state that scikit-learn makes of a seed, a state or None."""
    try:
        state: np.random.RandomState = check_random_state(random_state)
    except ValueError as error:
        raise ValueError(f"random_state must be None, a seed or a RandomState, got {random_state!r}") from error
    return state


def generator(random_state: Any) -> np.random.Generator:
    """Of a seed, of numpy's legacy state, or of neither, as scikit-learn takes them."""
    return np.random.default_rng(seeded(random_state).randint(2**31))


def flag(name: str, value: Any) -> None:
    """Refuse what is neither True nor False, as Python or numpy writes them."""
    if not isinstance(value, np.ndarray):
        one_of(name, value, (True, False))
    else:
        raise TypeError(f"{name} must be True or False, got an array")


def real(name: str, value: Any) -> None:
    """Refuse what is no finite number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")


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
        row = int(np.argmin(np.isfinite(narrow)))
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
