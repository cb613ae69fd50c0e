"""Linear classifiers and regressors on sparse data, trained lock-free by several threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import compute_class_weight
from sklearn.utils.extmath import softmax
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets

from loosestep.sparse.estimator import HogwildEstimator
from loosestep.sparse.labels import Classes, probabilities
from loosestep.sparse.linear_trainer import Examples
from loosestep.sparse.validation import narrowed, narrowed_weights, row_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _has_probabilities(self: Any) -> bool:
    if self.loss != "log_loss":
        raise AttributeError(f"probability estimates need loss='log_loss', not {self.loss!r}")
    return True


class HogwildClassifier(Classes, HogwildEstimator):
    """Linear classification by lock-free parallel SGD.

        for rows (x, y) of its share, every thread:   w_j <- w_j - eta l'(w.x + b, y) x_j   where x_j is not 0

    All threads move one model without locks. Coordinates that many rows hold have a copy in every thread (the
    head), merged every `period` rows; so threads do not fight for the cache lines that all of them write. Several
    classes are trained in one pass, one against the rest, or by softmax. The objective is scikit-learn's:
    mean loss + alpha (l1_ratio |w|_1 + (1 - l1_ratio) |w|^2 / 2), the intercept left out.

    loss: 'log_loss', 'hinge' or 'squared_hinge'.
    penalty, alpha, l1_ratio, fit_intercept, max_iter, tol, verbose, epsilon, random_state, eta0, power_t,
    early_stopping, validation_fraction, n_iter_no_change, class_weight, warm_start, average: as in
    sklearn.linear_model.SGDClassifier; max_iter counts passes over the data; early stopping and tol look at the
    loss; `average` takes the mean of the iterates at the sweeps, one every `period` rows of a thread.
    multi_class: 'ovr', or 'multinomial' (softmax; with log_loss).
    learning_rate: 'optimal', 'constant', 'invscaling', 'adaptive' as there; 'backoff' multiplies eta0 by `decay`
    after each pass (the paper's), 'adagrad' shares the sums of squares between threads.
    n_threads: how many threads train; None: one, -1: one for each processor. Several give other bits in every fit,
    unless `deterministic`.
    head: 'auto', or how many of the most popular coordinates have copies; 0: none (the paper's Hogwild).
    period: 'auto', or after how many of its rows a thread merges its copies and regularizes.
    adds: 'racy' (an update that another thread makes in between is lost) or 'exact' (none is).
    dtype: of the shared weights: 'float32', or 'bfloat16' with stochastic rounding.
        'auto' regularizes rare features less often where the model is large for its rows.
    regularize: 'swept' (all weights, every period) or 'touched' (the row's weights, L2 over their popularity).
    block_rows: lay out so many rows at a time (for memory-mapped data); None: all at once.
    deterministic: same seed and n_threads, same bits: all coordinates in the head, merged in the threads' order.
    diagnose: measure conflicts between threads; see `diagnosis_`.
    device: 'cpu', or 'cuda' (needs CuPy): passes run on the GPU, where n_threads warps (None: 1024) take rows at
        once; classes are trained one after another; the penalty shrinks the weights every `period` rows ('auto':
        16 times a pass). There learning_rate 'adagrad', average, deterministic, diagnose, head, bfloat16,
        'touched' and 'multinomial' are refused.

    Values are float32 in the engine. Raises ValueError for bad parameters and data, FloatingPointError where the
    weights are no longer finite.

    >>> from loosestep.sparse import HogwildClassifier
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> HogwildClassifier(alpha=1e-3, n_threads=2, random_state=0).fit(X / 16, y).score(X / 16, y) > 0.95
    True

    Reference: Niu, Recht, Re, Wright, Hogwild!, NIPS 2011.
    """

    losses = ("log_loss", "hinge", "squared_hinge")

    def __init__(
        self,
        loss: str = "hinge",
        *,
        penalty: str | None = "l2",
        alpha: float = 1e-4,
        l1_ratio: float = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        verbose: int = 0,
        epsilon: float = 0.1,
        n_threads: int | None = None,
        random_state: Any = None,
        learning_rate: str = "optimal",
        eta0: float = 0.01,
        power_t: float = 0.5,
        decay: float = 0.9,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        class_weight: Any = None,
        warm_start: bool = False,
        average: bool | int = False,
        multi_class: Literal["ovr", "multinomial"] = "ovr",
        head: int | Literal["auto"] = "auto",
        period: int | Literal["auto"] = "auto",
        adds: str = "racy",
        dtype: str = "float32",
        regularize: str = "swept",
        block_rows: int | None = None,
        deterministic: bool = False,
        diagnose: bool = False,
        device: Literal["cpu", "cuda"] = "cpu",
    ) -> None:
        for name, value in locals().copy().items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> HogwildClassifier:
        """Train on rows X (array or CSR) with labels y; weights multiply the losses."""
        self._check()
        rows, labels, sparse = self._labelled(X, y, reset=not self._warm())
        self._meet_all(labels, again=self._warm())
        weights = self._both_weights(labels, row_weights(sample_weight, rows))
        train, held_out = self._split(Examples.of(rows, self._targets(labels), weights))
        self._train(train, self._outputs(), sparse, held_out)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> HogwildClassifier:
        """Make one pass over a block of rows, from the weights as they are, by the options as they are.

        classes: all labels there will be, given with the first block.

        Options may be set between calls (`set_params(eta0=...)`), and so may `coef_`, `intercept_`, `t_` and
        `n_iter_`: the next call uses them. The mean of iterates (`average`) begins anew, from the weights that are
        shown, where `average` or they were set. max_iter, tol, n_iter_no_change, validation_fraction and
        warm_start are of `fit` alone; early_stopping and class_weight='balanced' are refused. A pickle or a copy
        goes on as the estimator itself does, to the same bits.

        >>> import numpy as np
        >>> X, y = np.eye(4), [0, 1, 0, 1]
        >>> model = HogwildClassifier(learning_rate="constant", eta0=0.1, random_state=0)
        >>> before = model.partial_fit(X, y, classes=[0, 1]).coef_
        >>> after = model.set_params(eta0=1e-6).partial_fit(X, y).coef_
        >>> bool(0 < abs(after - before).max() < 1e-5)
        True
        """
        self._check()
        if isinstance(self.class_weight, str) and self.class_weight == "balanced":
            raise ValueError("class_weight='balanced' needs all rows at once: pass a dict, or sample_weight")
        rows, labels, sparse = self._labelled(X, y, reset=not hasattr(self, "n_features_in_"))
        self._meet(labels, classes)
        weights = self._both_weights(labels, row_weights(sample_weight, rows))
        self._go_on(Examples.of(rows, self._targets(labels), weights), self._outputs(), sparse)
        return self

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return the probabilities of the classes: one against the rest, scaled to sum 1."""
        scores = self._scores(X)
        if scores.ndim == 2 and self.multi_class == "multinomial":
            return np.asarray(softmax(scores))
        return probabilities(scores)

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: Any) -> NDArray[Any]:
        """Return the logarithms of the probabilities."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.predict_proba(X)))

    def _choices(self) -> dict[str, tuple[Any, ...]]:
        kinds = ("ovr", "multinomial") if self.loss == "log_loss" else ("ovr",)
        return super()._choices() | {"multi_class": kinds}

    def _loss(self, outputs: int) -> str:
        return "softmax" if outputs > 1 and self.multi_class == "multinomial" else str(self.loss)

    def _labelled(self, X: Any, y: Any, reset: bool = True) -> tuple[Any, Any, bool]:
        rows, labels, sparse = self._rows(X, y, reset)
        check_classification_targets(labels)
        return rows, labels, sparse

    def _targets(self, labels: NDArray[Any]) -> NDArray[np.float32]:
        """Return -1 and 1, or numbers of classes."""
        numbers = self._numbers(labels)
        return (numbers if self.classes_.size > 2 else 2 * numbers - 1).astype(np.float32)

    def _both_weights(self, labels: NDArray[Any], rows: NDArray[np.float64] | None) -> NDArray[np.float32] | None:
        """Return the weights of rows, times those of their classes."""
        if self.class_weight is None:
            return narrowed_weights(rows)
        each = compute_class_weight(self.class_weight, classes=self.classes_, y=labels)
        mine = each[self._numbers(labels)]
        return narrowed_weights(mine if rows is None else rows * mine)


class HogwildRegressor(RegressorMixin, HogwildEstimator):  # type: ignore[misc]
    """Linear regression by lock-free parallel SGD: as HogwildClassifier, with a regression loss.

        w_j <- w_j - eta l'(w.x + b - y) x_j   where x_j is not 0

    loss: 'squared_error' (half the square) or 'huber' (linear beyond `epsilon`). learning_rate 'optimal' starts
    with steps that are too long for most regressions; the default is 'invscaling', as scikit-learn's.
    Everything else: see HogwildClassifier.

    >>> import numpy as np
    >>> from loosestep.sparse import HogwildRegressor
    >>> X = np.random.default_rng(0).normal(size=(1000, 5))
    >>> HogwildRegressor(random_state=0).fit(X, X @ np.arange(5.0)).score(X, X @ np.arange(5.0)) > 0.99
    True

    Reference: Niu, Recht, Re, Wright, Hogwild!, NIPS 2011.
    """

    losses = ("squared_error", "huber")

    def __init__(
        self,
        loss: str = "squared_error",
        *,
        penalty: str | None = "l2",
        alpha: float = 1e-4,
        l1_ratio: float = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        verbose: int = 0,
        epsilon: float = 0.1,
        n_threads: int | None = None,
        random_state: Any = None,
        learning_rate: str = "invscaling",
        eta0: float = 0.01,
        power_t: float = 0.25,
        decay: float = 0.9,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        average: bool | int = False,
        head: int | Literal["auto"] = "auto",
        period: int | Literal["auto"] = "auto",
        adds: str = "racy",
        dtype: str = "float32",
        regularize: str = "swept",
        block_rows: int | None = None,
        deterministic: bool = False,
        diagnose: bool = False,
        device: Literal["cpu", "cuda"] = "cpu",
    ) -> None:
        for name, value in locals().copy().items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> HogwildRegressor:
        """Train on rows X (array or CSR) with targets y; weights multiply the losses."""
        self._check()
        rows, targets, sparse = self._rows(X, y, reset=not self._warm())
        train, held_out = self._split(self._examples(rows, targets, sample_weight))
        self._train(train, 1, sparse, held_out)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> HogwildRegressor:
        """Make one pass over a block of rows, as `HogwildClassifier.partial_fit` does."""
        self._check()
        rows, targets, sparse = self._rows(X, y, reset=not hasattr(self, "n_features_in_"))
        self._go_on(self._examples(rows, targets, sample_weight), 1, sparse)
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Return w.x + b of every row."""
        return self._scores(X)

    @staticmethod
    def _examples(rows: Any, targets: NDArray[Any], weights: Any) -> Examples:
        return Examples.of(rows, narrowed("y", targets), narrowed_weights(row_weights(weights, rows)))
