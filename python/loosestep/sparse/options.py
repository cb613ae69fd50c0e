"""Options that the estimators share."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from loosestep import _core


def whole(name: str, value: object, least: int = 1, most: int | None = None) -> None:
    """Refuse what is no whole number of that range; numpy's are whole numbers too."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if number < least or (most is not None and number > most):
        wanted = f"in {least} .. {most}" if most is not None else f"at least {least}"
        raise ValueError(f"{name} must be {wanted}, got {number}")


def threads(n_threads: int | None) -> int:
    """As many as asked for, else one a core."""
    return _core.info()["cores"] if n_threads is None else int(n_threads)


def generator(random_state: Any) -> np.random.Generator:
    """Of a seed, of numpy's legacy state, or of neither, as scikit-learn takes them."""
    return np.random.default_rng(check_random_state(random_state).randint(2**31))
