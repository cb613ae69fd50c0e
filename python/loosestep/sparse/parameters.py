"""Parameters that the estimators share: threads and random states."""

from __future__ import annotations

from math import isfinite
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from loosestep import _core
from loosestep.foundation import checks


def threads(n_threads: int | None) -> int:
    """Return the number of threads: None is 1, and -1 is one for each processor that this process may use."""
    if n_threads == -1:
        return int(_core.info()["cores"])
    return 1 if n_threads is None else checks.integer("n_threads", n_threads)


def seeded(random_state: Any) -> np.random.RandomState:
    """Return the state that scikit-learn makes of a seed, a state or None."""
    try:
        state: np.random.RandomState = check_random_state(random_state)
    except ValueError as error:
        raise ValueError(f"random_state must be None, a seed or a RandomState, got {random_state!r}") from error
    return state


def generator(random_state: Any) -> np.random.Generator:
    """Return a generator from a seed, from numpy's legacy state, or from neither, as scikit-learn does."""
    return np.random.default_rng(seeded(random_state).randint(2**31))


def flag(name: str, value: Any) -> None:
    """Refuse what is neither True nor False, as Python or numpy writes them."""
    if not isinstance(value, np.ndarray):
        checks.one_of(name, value, (True, False))
    else:
        raise TypeError(f"{name} must be True or False, got an array")


def real(name: str, value: Any) -> None:
    """Refuse what is no finite number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")


def unchanged(estimator: Any, fixed: dict[str, Any]) -> None:
    """Refuse options that a first call has fixed, and that are others now; `fixed`: what they were."""
    for name, was in fixed.items():
        now = getattr(estimator, name)
        if now is not was and now != was:
            raise ValueError(
                f"{name} is fixed by the first call: it was {was!r} then, and is {now!r} now: fit anew"
            )
