"""Classes of classifiers: scores, labels and probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import unique_labels


class Classes(ClassifierMixin):  # type: ignore[misc]
    """Two classes have one score, above 0 for the second; more have a score each, one against the rest."""

    classes_: NDArray[Any]

    def decision_function(self, X: Any) -> NDArray[Any]:
        """Return the scores: one number a row for two classes, else one for each class."""
        scores: NDArray[Any] = self._scores(X)
        return scores

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the labels."""
        scores = self.decision_function(X)
        places = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        return np.asarray(self.classes_[places])

    def _outputs(self) -> int:
        return 1 if self.classes_.size == 2 else int(self.classes_.size)

    def _numbers(self, labels: NDArray[Any]) -> NDArray[np.intp]:
        return np.searchsorted(self.classes_, labels)

    def _meet_all(self, labels: NDArray[Any], again: bool = False) -> None:
        """Record all labels; `again`: they must be those of the weights from which a fit goes on."""
        classes = unique_labels(labels)
        if classes.size < 2:
            raise ValueError(f"there must be at least two classes, got one class: {classes[0]}")
        if again and hasattr(self, "classes_") and not np.array_equal(classes, self.classes_):
            raise ValueError(
                f"warm_start=True goes on from the weights of the classes {self.classes_}, and y has the classes "
                f"{classes}: give the same ones, set warm_start=False, or use partial_fit, which may lack some"
            )
        self.classes_ = classes

    def _meet(self, labels: NDArray[Any], classes: Any) -> None:
        """Record the labels of a block; `classes` lists all there will be, which the first block must give."""
        if not hasattr(self, "classes_"):
            if classes is None:
                raise ValueError(
                    "classes must be given at the first call of partial_fit: later blocks may hold others"
                )
            self._meet_all(np.asarray(classes))
        elif classes is not None and not np.array_equal(unique_labels(classes), self.classes_):
            raise ValueError(f"classes were {self.classes_} at the first call of partial_fit, got {classes}")
        unknown = np.setdiff1d(labels, self.classes_)
        if unknown.size:
            raise ValueError(f"label {unknown[0]} is not among the classes of the first call, {self.classes_}")


def probabilities(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Return logistic probabilities of each class against the rest, scaled to sum 1."""
    each = np.exp(-np.logaddexp(0, -scores.astype(np.float64)))
    if scores.ndim == 1:
        return np.column_stack([1 - each, each])
    total = each.sum(axis=1, keepdims=True)
    return np.asarray(np.where(total > 0, each / np.where(total > 0, total, 1), 1 / each.shape[1]))
