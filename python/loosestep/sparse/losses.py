"""The losses of the engine in numpy: their specification, also used for held-out rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def _huber(p: NDArray[Any], y: NDArray[Any], epsilon: float) -> NDArray[Any]:
    gap = np.abs(p - y)
    return np.asarray(np.where(gap <= epsilon, gap**2 / 2, epsilon * gap - epsilon**2 / 2))


VALUES: dict[str, Callable[[NDArray[Any], NDArray[Any], float], NDArray[Any]]] = {
    "log_loss": lambda p, y, epsilon: np.logaddexp(0, -y * p),
    "hinge": lambda p, y, epsilon: np.maximum(0, 1 - y * p),
    "squared_hinge": lambda p, y, epsilon: np.maximum(0, 1 - y * p) ** 2,
    "squared_error": lambda p, y, epsilon: (p - y) ** 2 / 2,
    "huber": _huber,
}
"""Of one output p at the target y (-1 or 1 for a class)."""


def values(loss: str, scores: NDArray[Any], targets: NDArray[Any], epsilon: float) -> NDArray[Any]:
    """Return the loss of every row: of one output, or of several, summed one against the rest, or softmax."""
    if scores.shape[1] == 1:
        return VALUES[loss](scores[:, 0], targets, epsilon)
    classes = targets.astype(np.intp)
    if loss == "softmax":
        own = scores[np.arange(classes.size), classes]
        return np.asarray(np.logaddexp.reduce(scores, axis=1) - own)
    signs = np.where(np.arange(scores.shape[1]) == classes[:, None], 1.0, -1.0)
    return np.asarray(VALUES[loss](scores, signs, epsilon).sum(axis=1))
