"""Factorization machines with scikit-learn's face: a linear model with a term for every pair of features."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from loosestep import _core
from loosestep.errors import Diverged, positive, whole
from loosestep.sparse.options import generator, threads
from loosestep.sparse.ratings import Floats
from loosestep.sparse.tables import LINE, aligned

HEAD = 4
"""Numbers of a feature beside its factors: w, AdaGrad's sums of w and of v, and one that is not used."""


class _FactorizationMachine(BaseEstimator):  # type: ignore[misc]
    """p = b + w.x + 1/2 sum_f ((sum_j v_jf x_j)^2 - sum_j v_jf^2 x_j^2), by parallel SGD without locks.

        g = dloss/dp    s_f = sum_j v_jf x_j, from the values before the example
        v_jf -= a_j (g x_j (s_f - v_jf x_j) + l v_jf)    w_j -= a_j (g x_j + l_w w_j)    b -= a g

    Only the features of an example move, and only they are pulled to 0 (l counts each time a feature is seen).
    a_j is learning_rate * decay^epoch / sqrt(1 + the sum, over the feature's examples so far, of the mean square
    of its gradient): AdaGrad with one sum for v_j and one for w_j, shared by the threads as the weights are.

    n_components: the rank k of the pairs' weights, 1 to 128; rows are padded to multiples of 16.
    fit_intercept: whether there is b.
    l2, l2_linear: l of v, l_w of w.
    learning_rate, decay: as above.
    max_iter: epochs, over examples shuffled once, in chunks of 64 whose order is drawn anew in each.
    n_threads: by default one a core; with one a seed gives the same bits.
    init_scale: v begins as N(0, init_scale^2 / k), w as 0.
    verbose: whether to print a line an epoch.

    Fitted: `intercept_`, `coef_` (features,), `components_` (k, features), `n_iter_`, `loss_curve_` (an epoch's
    mean loss, each example before it was learned).

    Reference: Rendle, Factorization Machines, ICDM 2010; Niu, Recht, Re, Wright, Hogwild!, NIPS 2011.
    """

    def __init__(
        self,
        n_components: int = 16,
        *,
        fit_intercept: bool = True,
        l2: float = 1e-4,
        l2_linear: float = 1e-5,
        learning_rate: float = 0.1,
        decay: float = 1.0,
        max_iter: int = 10,
        n_threads: int | None = None,
        init_scale: float = 0.1,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.n_components = n_components
        self.fit_intercept = fit_intercept
        self.l2 = l2
        self.l2_linear = l2_linear
        self.learning_rate = learning_rate
        self.decay = decay
        self.max_iter = max_iter
        self.n_threads = n_threads
        self.init_scale = init_scale
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # --- for the two faces ---------------------------------------------------------------------------------

    def _learn(self, X: Any, target: Floats, weight: Floats | None, loss: Literal["squared", "logistic"]) -> None:
        self._check()
        random = generator(self.random_state)
        v, heads, intercept = self._drawn(X.shape[1], random)
        order = random.permutation(len(target))
        examples = _examples(X[order], target[order], None if weight is None else weight[order])
        seed, curve = int(random.integers(2**31)), []
        machine = self._machine(v, heads, intercept)
        total = len(target) if weight is None else float(weight.sum())
        for epoch in range(self.max_iter):
            rate = float(self.learning_rate * self.decay**epoch)
            curve.append(machine.learn(examples, loss, rate, threads(self.n_threads), seed, epoch) / total)
            if not np.isfinite(curve[-1]):
                raise Diverged(0, epoch, curve[-1])
            if self.verbose:
                print(f"epoch {epoch + 1}: training loss {curve[-1]:.5f}", flush=True)
        self._arrays, self.loss_curve_, self.n_iter_ = (v, heads, intercept), curve, self.max_iter

    def _scores(self, X: Any) -> Floats:
        check_is_fitted(self, "n_iter_")
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float32, reset=False)
        examples = _examples(X, np.zeros(X.shape[0], np.float32), None)
        return self._machine(*self._arrays).score(examples, threads(self.n_threads))

    def _check(self) -> None:
        whole("n_components", self.n_components, most=128)
        whole("max_iter", self.max_iter)
        if self.n_threads is not None:
            whole("n_threads", self.n_threads)
        for name, zero in (("learning_rate", 0), ("decay", 0), ("init_scale", 0), ("l2", 1), ("l2_linear", 1)):
            positive(name, float(getattr(self, name)), zero=bool(zero))

    def _drawn(self, features: int, random: np.random.Generator) -> tuple[Floats, Floats, Floats]:
        rank = int(self.n_components)
        v = aligned(features, -(-rank // LINE) * LINE, np.dtype(np.float32))
        v[:, :rank] = random.standard_normal((features, rank), np.float32) * np.float32(
            self.init_scale / rank**0.5
        )
        heads = aligned(features, HEAD, np.dtype(np.float32))
        heads[:, 1:3] = 1
        return v, heads, np.zeros(1, np.float32)

    def _machine(self, v: Floats, heads: Floats, intercept: Floats) -> _core.FactorMachine:
        begun = intercept if self.fit_intercept else None
        return _core.FactorMachine(v, heads, begun, int(self.n_components), self.l2, self.l2_linear, True)

    @property
    def intercept_(self) -> float:
        return float(self._arrays[2][0])

    @property
    def coef_(self) -> Floats:
        heads: Floats = self._arrays[1]
        return heads[:, 0]

    @property
    def components_(self) -> Floats:
        transposed: Floats = self._arrays[0][:, : self.n_components].T
        return transposed


class FactorizationMachineRegressor(RegressorMixin, _FactorizationMachine):  # type: ignore[misc]
    __doc__ = f"""A factorization machine for half the squared error: loss = (p - y)^2 / 2.

    {_FactorizationMachine.__doc__}
    >>> import numpy as np
    >>> X = np.eye(6, dtype=np.float32)[[0, 1, 2, 0, 1, 2]] + np.eye(6, dtype=np.float32)[[3, 3, 4, 4, 5, 5]]
    >>> y = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])  # of the pair alone
    >>> model = FactorizationMachineRegressor(4, max_iter=300, n_threads=1, random_state=0).fit(X, y)
    >>> bool(np.abs(model.predict(X) - y).max() < 0.1)
    True
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> FactorizationMachineRegressor:
        """Learns from rows X, sparse or dense, and numbers y."""
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=np.float32, y_numeric=True)
        weight = None if sample_weight is None else _check_sample_weight(sample_weight, X, dtype=np.float32)
        self._learn(X, np.ascontiguousarray(y, np.float32), weight, "squared")
        return self

    def predict(self, X: Any) -> Floats:
        return self._scores(X)


class FactorizationMachineClassifier(ClassifierMixin, _FactorizationMachine):  # type: ignore[misc]
    __doc__ = f"""A factorization machine for two classes: loss = log(1 + exp(-y p)), y = -1 or 1.

    {_FactorizationMachine.__doc__}
    `classes_`: the two labels. For more, see `sklearn.multiclass.OneVsRestClassifier`.
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> FactorizationMachineClassifier:
        """Learns from rows X, sparse or dense, and labels y of two classes."""
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=np.float32)
        check_classification_targets(y)
        if (kind := type_of_target(y, input_name="y")) != "binary":
            raise ValueError(f"Only binary classification is supported. The type of the target is {kind}.")
        weight = None if sample_weight is None else _check_sample_weight(sample_weight, X, dtype=np.float32)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) == 1:
            raise ValueError(f"y must hold two classes, got one class, {self.classes_[0]!r}")
        self._learn(X, (2 * labels - 1).astype(np.float32), weight, "logistic")
        return self

    def decision_function(self, X: Any) -> Floats:
        """p: above 0 for the second class."""
        return self._scores(X)

    def predict(self, X: Any) -> NDArray[Any]:
        second = (self.decision_function(X) > 0).astype(int)
        chosen: NDArray[Any] = self.classes_[second]
        return chosen

    def predict_proba(self, X: Any) -> NDArray[Any]:
        p = self.decision_function(X).astype(np.float64)
        second = np.exp(-np.logaddexp(0, -p))
        return np.stack([1 - second, second], 1)


def _examples(X: Any, target: Floats, weight: Floats | None) -> _core.SparseExamples:
    rows = scipy.sparse.csr_array(X, copy=True)
    rows.sum_duplicates()
    begin: NDArray[np.int64] = rows.indptr.astype(np.int64)
    feature: NDArray[np.int32] = rows.indices.astype(np.int32)
    value: NDArray[np.float32] = rows.data.astype(np.float32)
    return _core.SparseExamples(begin, feature, value, target, weight, X.shape[1])
