"""Factorization machines with scikit-learn's interface: a linear model with a term for every pair of features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from loosestep import _core
from loosestep.foundation import checks
from loosestep.foundation.errors import Diverged
from loosestep.sparse.factor_table import LINE, aligned
from loosestep.sparse.labels import Classes, probabilities
from loosestep.sparse.parameters import flag, generator, seeded, threads, unchanged
from loosestep.sparse.ratings import Floats
from loosestep.sparse.validation import narrowed, narrowed_weights, room, row_weights, sound

HEAD = 4
"""Numbers of a feature beside its factors: w, AdaGrad's sums of w and of v, and one that is not used."""

FIXED = ("n_components", "fit_intercept", "init_scale", "random_state")
"""Options of the first call alone."""


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
    n_threads: None: one, -1: one for each processor. Several give other bits in every fit.
    init_scale: v begins as N(0, init_scale^2 / k), w as 0.
    verbose: whether to print a line an epoch.

    `partial_fit` makes one epoch over a block of rows, from where the weights and their sums are. Options and
    weights may be set between its calls; n_components, fit_intercept, init_scale and random_state may not, for the
    first call (or `fit`) has used them, and max_iter is of `fit` alone.

    Fitted: `intercept_`, `coef_` (features,), `components_` (k, features), of a classifier with a machine a class
    in front, or with a single one for two; `n_iter_`, `loss_curve_` (an epoch's mean loss, summed over machines,
    each example before it was learned).

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

    def _learn(self, rows: FitRows, machines: Machines, epochs: int) -> None:
        """Train so many more epochs."""
        order = np.random.default_rng([machines.seed, len(machines.curve)]).permutation(rows.X.shape[0])
        examples, total = rows.examples(order), rows.total()
        natives = [self._native(arrays, machines) for arrays in machines.arrays]
        for _ in range(epochs):
            epoch = len(machines.curve)
            rate, crew = float(self.learning_rate * self.decay**epoch), threads(self.n_threads)
            losses = [
                native.learn(each, rows.loss, rate, crew, machines.seed + k, epoch)
                for k, (native, each) in enumerate(zip(natives, examples, strict=True))
            ]
            machines.note(sum(losses) / total, self.verbose)

    def _fitted(self, machines: Machines) -> None:
        self._machines, self.loss_curve_, self.n_iter_ = machines, machines.curve, len(machines.curve)

    def _fit(self, rows: FitRows) -> None:
        with room(rows.described(self.n_components)):
            machines = self._drawn(rows)
            self._learn(rows, machines, self.max_iter)
        self._fitted(machines)

    def _partial_fit(self, rows: FitRows) -> None:
        with room(rows.described(self.n_components)):
            machines = self._machines if hasattr(self, "_machines") else self._drawn(rows)
            self._learn(rows, machines, 1)
        self._fitted(machines)

    def _scores(self, X: Any) -> Floats:
        check_is_fitted(self, "n_iter_")
        X = validate_data(self, sound(X), accept_sparse="csr", dtype=np.float32, reset=False)
        (examples,) = FitRows(X, [np.zeros(X.shape[0], np.float32)], None).examples()
        machines, crew = self._machines, threads(self.n_threads)
        each = [self._native(arrays, machines).score(examples, crew) for arrays in machines.arrays]
        return each[0] if len(each) == 1 else np.stack(each, 1)

    def _check(self, again: bool = False) -> None:
        """Check the options; `again`: also that they are those of the first call."""
        for name in ("fit_intercept", "verbose"):
            flag(name, getattr(self, name))
        seeded(self.random_state)
        checks.integer("n_components", self.n_components, most=128)
        checks.integer("max_iter", self.max_iter)
        threads(self.n_threads)
        for name, zero in (("learning_rate", 0), ("decay", 0), ("init_scale", 0), ("l2", 1), ("l2_linear", 1)):
            checks.positive(name, getattr(self, name), zero=bool(zero))
        if again and hasattr(self, "_machines"):
            unchanged(self, self._machines.fixed)

    def _drawn(self, rows: FitRows) -> Machines:
        random = generator(self.random_state)
        arrays = [self._arrays(rows.X.shape[1], random) for _ in rows.targets]
        fixed = {name: getattr(self, name) for name in FIXED}
        return Machines(arrays, int(random.integers(2**31)), [], fixed)

    def _arrays(self, features: int, random: np.random.Generator) -> Arrays:
        rank = int(self.n_components)
        v = aligned(features, -(-rank // LINE) * LINE, np.dtype(np.float32))
        scale = np.float32(self.init_scale / rank**0.5)
        v[:, :rank] = random.standard_normal((features, rank), np.float32) * scale
        heads = aligned(features, HEAD, np.dtype(np.float32))
        heads[:, 1:3] = 1
        return v, heads, np.zeros(1, np.float32)

    def _native(self, arrays: Arrays, machines: Machines) -> _core.FactorMachine:
        v, heads, intercept = arrays
        begun = intercept if machines.fixed["fit_intercept"] else None
        return _core.FactorMachine(v, heads, begun, machines.rank, self.l2, self.l2_linear, True)

    def _shown(self, each: Sequence[Any]) -> Any:
        """Return a read-only copy where there are several machines, since writing to it would change nothing."""
        stacked = np.stack(each)
        stacked.flags.writeable = False
        return stacked

    def _set(self, name: str, value: Any, places: Sequence[Any]) -> None:
        """Write a fitted attribute where the machines have it."""
        wanted, given = np.shape(self._shown(places)), np.asarray(value)
        if given.shape != wanted or given.dtype.kind not in "fiu":
            raise ValueError(f"{name} must be numbers of the shape {wanted}, got {given.dtype} of {given.shape}")
        for place, part in zip(places, narrowed(name, given).reshape(-1, *places[0].shape), strict=True):
            place[...] = part

    @property
    def intercept_(self) -> Any:
        return self._shown([intercept[0] for _, _, intercept in self._machines.arrays])

    @intercept_.setter
    def intercept_(self, value: Any) -> None:
        self._set("intercept_", value, [intercept.reshape(()) for _, _, intercept in self._machines.arrays])

    @property
    def coef_(self) -> Any:
        return self._shown(self._machines.linear())

    @coef_.setter
    def coef_(self, value: Any) -> None:
        self._set("coef_", value, self._machines.linear())

    @property
    def components_(self) -> Any:
        return self._shown(self._machines.pairs())

    @components_.setter
    def components_(self, value: Any) -> None:
        self._set("components_", value, self._machines.pairs())


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
        """Learn from rows X, sparse or dense, and numbers y; weights multiply the losses."""
        self._check()
        self._fit(self._rows(X, y, sample_weight, reset=True))
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> FactorizationMachineRegressor:
        """Make one epoch over a block of rows."""
        self._check(again=True)
        self._partial_fit(self._rows(X, y, sample_weight, reset=not hasattr(self, "n_iter_")))
        return self

    def predict(self, X: Any) -> Floats:
        return self._scores(X)

    def _rows(self, X: Any, y: Any, sample_weight: Any, reset: bool) -> FitRows:
        X, y = validate_data(self, sound(X), y, accept_sparse="csr", dtype=np.float32, y_numeric=True, reset=reset)
        return FitRows(X, [narrowed("y", y)], narrowed_weights(row_weights(sample_weight, X)), "squared")

    def _shown(self, each: Sequence[Any]) -> Any:
        return each[0]


class FactorizationMachineClassifier(Classes, _FactorizationMachine):
    __doc__ = f"""A factorization machine for classes: loss = log(1 + exp(-y p)), y = -1 or 1.

    More than two classes have a machine each, one against the rest.
    {_FactorizationMachine.__doc__}
    `classes_`: the labels.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> FactorizationMachineClassifier:
        """Learn from rows X, sparse or dense, and labels y; weights multiply the losses."""
        self._check()
        X, y = self._labelled(X, y, reset=True)
        self._meet_all(y)
        self._fit(self._rows(X, y, sample_weight))
        return self

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> FactorizationMachineClassifier:
        """Make one epoch over a block; `classes` are all labels there will be, given with the first block."""
        self._check(again=True)
        X, y = self._labelled(X, y, reset=not hasattr(self, "classes_"))
        self._meet(y, classes)
        self._partial_fit(self._rows(X, y, sample_weight))
        return self

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return the probabilities of the classes: one against the rest, scaled to sum 1."""
        return probabilities(self.decision_function(X))

    def _labelled(self, X: Any, y: Any, reset: bool) -> tuple[Any, Any]:
        X, y = validate_data(self, sound(X), y, accept_sparse="csr", dtype=np.float32, reset=reset)
        check_classification_targets(y)
        return X, y

    def _rows(self, X: Any, labels: NDArray[Any], sample_weight: Any) -> FitRows:
        numbers, outputs = self._numbers(labels), self._outputs()
        positive = [1] if outputs == 1 else range(outputs)
        targets = [np.where(numbers == k, 1, -1).astype(np.float32) for k in positive]
        return FitRows(X, targets, narrowed_weights(row_weights(sample_weight, X)), "logistic")


Arrays: TypeAlias = tuple[Floats, Floats, Floats]
"""A machine's v, its heads, its intercept: all are moved in place."""


@dataclass
class Machines:
    """One machine, or one per class, and the mean losses of their epochs."""

    arrays: list[Arrays]
    seed: int
    curve: list[float]
    fixed: dict[str, Any]
    """Options that were used when they were made."""

    @property
    def rank(self) -> int:
        return int(self.fixed["n_components"])

    def linear(self) -> list[Floats]:
        return [heads[:, 0] for _, heads, _ in self.arrays]

    def pairs(self) -> list[Floats]:
        return [v[:, : self.rank].T for v, _, _ in self.arrays]

    def note(self, loss: float, aloud: bool) -> None:
        if not np.isfinite(loss):
            raise Diverged(0, len(self.curve), loss)
        self.curve.append(loss)
        if aloud:
            print(f"epoch {len(self.curve)}: training loss {loss:.5f}", flush=True)


@dataclass(frozen=True)
class FitRows:
    """What a fit learns from: rows, and for every machine their targets."""

    X: Any
    targets: list[Floats]
    weight: Floats | None
    loss: Literal["squared", "logistic"] = "squared"

    def __post_init__(self) -> None:
        checks.integer("the number of columns of X", self.X.shape[1], most=2**31 - 1)

    def total(self) -> float:
        return float(self.X.shape[0] if self.weight is None else self.weight.sum(dtype=np.float64))

    def described(self, rank: int) -> str:
        return f"{len(self.targets)} x {self.X.shape[1]} features of rank {rank}"

    def examples(self, order: Any = None) -> list[_core.SparseExamples]:
        """Return, for each machine, its examples in that order of the rows."""
        which = slice(None) if order is None else order
        rows = scipy.sparse.csr_array(self.X, copy=order is None)[which]
        rows.sum_duplicates()
        begin: NDArray[np.int64] = rows.indptr.astype(np.int64)
        feature: NDArray[np.int32] = rows.indices.astype(np.int32)
        value: NDArray[np.float32] = rows.data.astype(np.float32)
        weight = None if self.weight is None else self.weight[which]
        features = int(self.X.shape[1])
        return [
            _core.SparseExamples(begin, feature, value, target[which], weight, features) for target in self.targets
        ]
