"""Options that the estimators share."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from loosestep import _core
from loosestep.errors import whole


def threads(n_threads: int | None) -> int:
    """How many are asked for: None is 1, and -1 is one for each processor that this process may use."""
    if n_threads == -1:
        return int(_core.info()["cores"])
    return 1 if n_threads is None else whole("n_threads", n_threads)


def generator(random_state: Any) -> np.random.Generator:
    """Of a seed, of numpy's legacy state, or of neither, as scikit-learn takes them."""
    return np.random.default_rng(check_random_state(random_state).randint(2**31))
