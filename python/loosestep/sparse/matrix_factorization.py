"""Matrix factorization with scikit-learn's interface: ratings by the product of user and item factors."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from loosestep.foundation import checks
from loosestep.foundation.errors import Diverged
from loosestep.sparse import mf_device
from loosestep.sparse.factor_table import Table
from loosestep.sparse.mf_trainer import Training
from loosestep.sparse.parameters import flag, generator, real, seeded, threads, unchanged
from loosestep.sparse.ratings import Floats, Ratings, check_shape, pairs, read
from loosestep.sparse.validation import room

FIXED = (
    "n_components", "fit_intercept", "feedback", "schedule", "dtype", "init_scale", "shape", "random_state"
)  # fmt: skip
"""Options of the first call alone."""


class MatrixFactorization(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """r_ui is about mean + b_u + b_i + p_u.q_i, found by parallel SGD on half the squared error.

        e = r_ui - (mean + b_u + b_i + p_u.q_i)
        p_u += a (e q_i - l p_u)    q_i += a (e p_u - l q_i)    b_u += a (e - l b_u)    b_i likewise

    Both rows move from their old values. With schedule "adagrad" a is learning_rate / sqrt(1 + the sum, over a
    row's visits, of its gradient's mean square), a sum for each row, shared by the threads as the rows are (Chin
    et al. 2015; memory: a float a row). With "backoff" a is learning_rate * decay^epoch (Niu et al. 2011).

    `fit(X, y)` takes pairs (user, item), whole numbers of shape (n, 2), and their ratings; `fit(X)` a sparse
    matrix whose stored entries are the ratings. A user or item without ratings has factors of 0.

    With feedback "implicit" the entries say how often a user met an item (0 and above). Learned is preference: 1,
    with weight 1 + alpha * entry, for pairs that were given, 0 with weight 1 for n_negatives others for each of
    them: the same user and any item, drawn anew in every epoch, but left out if it was given (Hu, Koren, Volinsky
    2008: the weights; Pan et al. 2008: the sampling); e above is then times the weight, and the mean is 0.

    n_components: the rank k, 1 to 128; rows are padded to multiples of 16.
    feedback, alpha, n_negatives: as above; the latter two are of "implicit" alone.
    fit_intercept: whether there are a mean and biases; without them this is matrix completion.
    l2: l, on every visit. With l2_scale "degree", l = l2 / (2 ratings of the row), so that l2 weighs the whole
        objective and not each rating.
    schedule, learning_rate, decay: a, as above; decay also multiplies AdaGrad's learning_rate, by default by 1.
    max_iter: epochs.
    algorithm: "hogwild" (threads share the items and lock nothing) or "rotation" (slices of the items go round
        the threads, so that no two ever write to one row: the same bits in every run).
    rotation_order: of rotation; the way of the slices: in every epoch the same "ring" of the threads, or a new
        random "permutation" of them.
    rotation_seconds: of rotation; None: a thread visits every rating of its users in a slice, then passes it on.
        Else it passes it on after so many seconds (and one cell of the grid, at least), and goes on where it
        stopped when it meets the slice again: nobody waits long for a slow thread, an epoch may visit some
        ratings twice and some not at all, and runs differ.
    adds: of Hogwild; "racy" may lose an update where two threads meet, "exact" (compare-exchange, element by
        element, several times slower) loses none.
    dtype: "float32", or "bfloat16" with unbiased stochastic rounding: half the memory, faster only where the
        float32 factors do not fit the last-level cache.
    n_threads: None: one, -1: one for each processor. Several give other bits in every fit with "hogwild".
    init_scale: factors begin as N(0, init_scale^2 / k); without an intercept around a number for which p.q is
        the mean rating.
    early_stopping, validation_fraction, n_iter_no_change, tol: hold a part out, and stop after so many epochs in
        a row whose held-out RMSE is not tol below the best one.
    shape: (users, items), where fit's ratings do not show all of them.
    verbose: whether to print a line an epoch.
    device: "cpu", or "cuda" (needs CuPy): epochs run on the GPU, where n_threads warps (None: 1024) take ratings
        at once. It needs schedule "backoff", algorithm "hogwild", l2_scale "rating", explicit feedback, float32.

    Fitted: `user_factors_` (users, k), `components_` (k, items), `user_bias_`, `item_bias_`, `mean_`, `n_iter_`,
    `rmse_` (an epoch's training error, each rating before its own update), `validation_rmse_`.

    >>> import numpy as np
    >>> pairs = np.array([[u, i] for u in range(20) for i in range(15)])
    >>> ratings = np.outer(np.arange(20) % 4, np.arange(15) % 3).ravel()
    >>> model = MatrixFactorization(4, l2=0.001, max_iter=60, random_state=0).fit(pairs, ratings)
    >>> bool(np.abs(model.predict(pairs) - ratings).max() < 0.2)
    True

    Reference: Koren, Bell, Volinsky, Matrix Factorization Techniques for Recommender Systems, IEEE Computer
    42(8), 2009; Niu, Recht, Re, Wright, Hogwild!, NIPS 2011 (l2_scale "degree"); Zhang, Peng, Qiu, Model
    rotation, 2016; Chin et al., A Learning-Rate Schedule for SGD to Matrix Factorization, PAKDD 2015; Hu, Koren,
    Volinsky, Collaborative Filtering for Implicit Feedback Datasets, ICDM 2008; Pan et al., One-Class
    Collaborative Filtering, ICDM 2008.
    """

    def __init__(
        self,
        n_components: int = 32,
        *,
        fit_intercept: bool = True,
        feedback: Literal["explicit", "implicit"] = "explicit",
        alpha: float = 1.0,
        n_negatives: int = 4,
        l2: float = 0.1,
        l2_scale: Literal["rating", "degree"] = "rating",
        schedule: Literal["adagrad", "backoff"] = "adagrad",
        learning_rate: float = 0.1,
        decay: float = 1.0,
        max_iter: int = 20,
        algorithm: Literal["hogwild", "rotation"] = "hogwild",
        rotation_order: Literal["ring", "permutation"] = "ring",
        rotation_seconds: float | None = None,
        adds: Literal["racy", "exact"] = "racy",
        dtype: Literal["float32", "bfloat16"] = "float32",
        n_threads: int | None = None,
        init_scale: float = 0.1,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 2,
        tol: float = 1e-4,
        shape: tuple[int, int] | None = None,
        random_state: Any = None,
        verbose: bool = False,
        device: Literal["cpu", "cuda"] = "cpu",
    ) -> None:
        self.n_components = n_components
        self.fit_intercept = fit_intercept
        self.feedback = feedback
        self.alpha = alpha
        self.n_negatives = n_negatives
        self.l2 = l2
        self.l2_scale = l2_scale
        self.schedule = schedule
        self.learning_rate = learning_rate
        self.decay = decay
        self.max_iter = max_iter
        self.algorithm = algorithm
        self.rotation_order = rotation_order
        self.rotation_seconds = rotation_seconds
        self.adds = adds
        self.dtype = dtype
        self.n_threads = n_threads
        self.init_scale = init_scale
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.shape = shape
        self.random_state = random_state
        self.verbose = verbose
        self.device = device

    def fit(self, X: Any, y: Any = None) -> MatrixFactorization:
        """Learn from ratings; an earlier fit is replaced, but stays if this raises.

        Users and items are numbered from 0: numbers with gaps cost the memory of all numbers up to the largest.
        """
        self._check()
        ratings = self._read(X, y, self.shape)
        random = generator(self.random_state)
        held = None
        if self.early_stopping:
            ratings, held = ratings.held_out(self.validation_fraction, random)
        with self._room(ratings.shape):
            tables, mean = self._begun(ratings, random), self._mean(ratings)
            seed = int(random.integers(2**31))
            training = Training.of(self, tables, ratings, mean, seed)
            errors, tests = self._epochs(training, held, mean)
        self._taken(tables, mean, ratings.shape, errors, seed)
        self.validation_rmse_ = tests
        return self

    def partial_fit(self, X: Any, y: Any = None) -> MatrixFactorization:
        """Make one epoch over these ratings, from where the factors are.

        The first call (or `fit`) fixes users, items and mean: give `shape` where later ones show more. It also
        fixes n_components, fit_intercept, feedback, schedule, dtype, init_scale, shape and random_state; other
        options, factors and biases may be set between calls. max_iter, validation_fraction, n_iter_no_change and
        tol are of `fit` alone, and early_stopping is refused.
        """
        self._check()
        if self.early_stopping:
            raise ValueError(
                "early_stopping=True holds ratings out, which partial_fit cannot: set it to False, or use fit"
            )
        if not hasattr(self, "n_iter_"):
            ratings, random = self._read(X, y, self.shape), generator(self.random_state)
            with self._room(ratings.shape):
                tables, mean = self._drawn(ratings, random), self._mean(ratings)
            self._taken(tables, mean, ratings.shape, [], int(random.integers(2**31)))
        unchanged(self, self._fixed)
        ratings = self._read(X, y, self._shape, known=True)
        with self._room(ratings.shape):
            training = Training.of(self, self._tables, ratings, self.mean_, self._seed + self.n_iter_)
            self.rmse_.append(self._finite(training.epoch(self._rate(self.n_iter_), self.n_iter_), self.n_iter_))
        if self.verbose:
            print(_line(self.n_iter_, self.rmse_, []), flush=True)
        self.n_iter_ += 1
        return self

    def predict(self, X: Any) -> Floats:
        """Return ratings of pairs (user, item), or of a sparse matrix's stored entries, in their order."""
        check_is_fitted(self, "n_iter_")
        users, items = pairs(X, self._shape)
        return self.mean_ + self._tables[0].score(self._tables[1], users, items)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the coefficient of determination R^2 on ratings, given as to `fit`."""
        if y is None:
            y = X.tocoo().data
        return float(super().score(X, y, sample_weight))

    def transform(self, X: Any) -> Floats:
        """Return factors of other users, given their ratings as a sparse matrix (users, items):

        each row is the minimum of its own objective, |r - mean - b_i - Q p|^2 + l n |p|^2 over its n ratings (n l
        is l2 / 2 by degree).
        """
        check_is_fitted(self, "n_iter_")
        if self.feedback != "explicit":
            raise ValueError("transform places users by explicit ratings, and feedback is 'implicit'")
        ratings = read(X, None, None)
        if ratings.shape[1] != self._shape[1]:
            raise ValueError(f"X must have {self._shape[1]} columns, one for each item, got {ratings.shape[1]}")
        items = self._tables[1]
        target = ratings.values - self.mean_ - (0 if items.bias is None else items.bias[ratings.items])
        out = np.zeros((ratings.shape[0], items.rank), np.float32)
        for user, chosen in _by_user(ratings.users):
            q = items.picked(ratings.items[chosen])[:, : items.rank].astype(np.float64)
            weight = self.l2 / 2 if self.l2_scale == "degree" else self.l2 * len(q)
            out[user] = np.linalg.lstsq(q.T @ q + weight * np.eye(q.shape[1]), q.T @ target[chosen], rcond=None)[0]
        return out

    @property
    def user_factors_(self) -> Floats:
        return self._tables[0].factors()

    @user_factors_.setter
    def user_factors_(self, value: Any) -> None:
        self._tables[0].set_factors("user_factors_", value)

    @property
    def components_(self) -> Floats:
        factors: Floats = self._tables[1].factors().T
        return factors

    @components_.setter
    def components_(self, value: Any) -> None:
        self._tables[1].set_factors("components_", np.transpose(value))

    @property
    def user_bias_(self) -> Floats | None:
        return self._tables[0].bias

    @user_bias_.setter
    def user_bias_(self, value: Any) -> None:
        self._tables[0].set_bias("user_bias_", value)

    @property
    def item_bias_(self) -> Floats | None:
        return self._tables[1].bias

    @item_bias_.setter
    def item_bias_(self, value: Any) -> None:
        self._tables[1].set_bias("item_bias_", value)

    # --- inside --------------------------------------------------------------------------------------------

    def _check(self) -> None:
        checks.integer("n_components", self.n_components, most=128)
        for name in ("max_iter", "n_iter_no_change"):
            checks.integer(name, getattr(self, name))
        for name in ("fit_intercept", "early_stopping", "verbose"):
            flag(name, getattr(self, name))
        for name in ("tol", "validation_fraction"):
            real(name, getattr(self, name))
        seeded(self.random_state)
        if self.shape is not None:
            check_shape(self.shape)
        threads(self.n_threads)
        for name, zero in (("learning_rate", False), ("decay", False), ("init_scale", False), ("l2", True)):
            checks.positive(name, getattr(self, name), zero=zero)
        checks.one_of("feedback", self.feedback, ("explicit", "implicit"))
        checks.integer("n_negatives", self.n_negatives)
        checks.positive("alpha", self.alpha, zero=True)
        if self.feedback == "implicit" and self.early_stopping:
            raise ValueError("early_stopping holds ratings out, and is for feedback='explicit'")
        checks.one_of("l2_scale", self.l2_scale, ("rating", "degree"))
        checks.one_of("schedule", self.schedule, ("adagrad", "backoff"))
        checks.one_of("algorithm", self.algorithm, ("hogwild", "rotation"))
        checks.one_of("adds", self.adds, ("racy", "exact"))
        checks.one_of("dtype", self.dtype, ("float32", "bfloat16"))
        self._check_rotation()
        checks.one_of("device", self.device, ("cpu", "cuda"))
        if self.device == "cuda":
            mf_device.check_options(self)
        if self.adds == "exact" and (self.algorithm != "hogwild" or self.dtype != "float32"):
            raise ValueError("adds='exact' is for algorithm='hogwild' and dtype='float32'")
        if not 0 < self.validation_fraction < 1:
            raise ValueError(f"validation_fraction must be between 0 and 1, got {self.validation_fraction!r}")

    def _check_rotation(self) -> None:
        checks.one_of("rotation_order", self.rotation_order, ("ring", "permutation"))
        if self.rotation_seconds is not None:
            checks.positive("rotation_seconds", self.rotation_seconds)
        given = self.rotation_order != "ring" or self.rotation_seconds is not None
        if given and self.algorithm != "rotation":
            raise ValueError("rotation_order and rotation_seconds are for algorithm='rotation'")
        if self.rotation_seconds is not None and self.feedback == "implicit":
            raise ValueError(
                "rotation_seconds leaves ratings for later epochs, and feedback='implicit' draws others in each"
            )

    def _rate(self, epoch: int) -> float:
        return float(self.learning_rate * self.decay**epoch)

    def _room(self, shape: tuple[int, int]) -> AbstractContextManager[None]:
        numbers = (
            "users and items are numbered from 0, and those with large or missing numbers must be numbered anew, "
        )
        return room(
            f"factors of {shape[0]} users and {shape[1]} items of rank {self.n_components}: {numbers}"
            "as by numpy.unique(..., return_inverse=True)"
        )

    def _read(self, X: Any, y: Any, shape: tuple[int, int] | None, known: bool = False) -> Ratings:
        ratings = read(X, y, shape, known)
        if self.feedback == "implicit" and ratings.values.min() < 0:
            raise ValueError(f"implicit feedback must be at least 0, got {ratings.values.min()}")
        return ratings

    def _mean(self, ratings: Ratings) -> float:
        with_mean = self.fit_intercept and self.feedback == "explicit"
        return float(ratings.values.mean(dtype=np.float64)) if with_mean else 0.0

    def _drawn(self, ratings: Ratings, random: np.random.Generator) -> tuple[Table, Table]:
        rank, center = int(self.n_components), self._center(ratings)
        share = (abs(center) / rank) ** 0.5
        options: dict[str, Any] = {
            "bias": self.fit_intercept,
            "adagrad": self.schedule == "adagrad",
            "half": self.dtype == "bfloat16",
            "scale": self.init_scale / rank**0.5,
        }
        users = Table.drawn(ratings.shape[0], rank, random, center=share, **options)
        return users, Table.drawn(
            ratings.shape[1], rank, random, center=float(np.copysign(share, center)), **options
        )

    def _center(self, ratings: Ratings) -> float:
        """Return the initial value of p.q."""
        no_mean = not self.fit_intercept and self.feedback == "explicit"
        return float(ratings.values.mean()) if no_mean else 0.0

    def _begun(self, ratings: Ratings, random: np.random.Generator) -> tuple[Table, Table]:
        tables = self._drawn(ratings, random)
        for table, index in zip(tables, (ratings.users, ratings.items), strict=True):
            table.rows[np.bincount(index, minlength=len(table.rows)) == 0] = 0
        return tables

    def _epochs(self, training: Training, held: Ratings | None, mean: float) -> tuple[list[float], list[float]]:
        errors: list[float] = []
        tests: list[float] = []
        for epoch in range(self.max_iter):
            errors.append(self._finite(training.epoch(self._rate(epoch), epoch), epoch))
            tests += [] if held is None else [self._finite(training.error(held, mean), epoch)]
            if self.verbose:
                print(_line(epoch, errors, tests), flush=True)
            best = min(tests[: -self.n_iter_no_change], default=float("inf"))
            if min(tests[-self.n_iter_no_change :], default=-1.0) > best - self.tol:
                break
        return errors, tests

    def _finite(self, error: float, epoch: int) -> float:
        if not np.isfinite(error):
            raise Diverged(0, epoch, error)
        return error

    def _keep(self, tables: tuple[Table, Table], mean: float, shape: tuple[int, int]) -> None:
        self._tables, self.mean_, self._shape = tables, mean, shape
        self.n_features_in_ = shape[1]

    def _taken(
        self, tables: tuple[Table, Table], mean: float, shape: tuple[int, int], errors: list[float], seed: int
    ) -> MatrixFactorization:
        """Return the estimator, fitted with factors that were found elsewhere."""
        self._keep(tables, mean, shape)
        self._fixed = {name: getattr(self, name) for name in FIXED}
        self.rmse_, self.validation_rmse_, self.n_iter_, self._seed = errors, [], len(errors), seed
        return self


def _line(epoch: int, errors: list[float], tests: list[float]) -> str:
    held = f", held-out {tests[-1]:.4f}" if tests else ""
    return f"epoch {epoch + 1}: training RMSE {errors[-1]:.4f}{held}"


def _by_user(users: NDArray[np.uint32]) -> list[tuple[int, NDArray[Any]]]:
    order = np.argsort(users, kind="stable")
    names, starts = np.unique(users[order], return_index=True)
    return list(zip(names.tolist(), np.split(order, starts[1:]), strict=True))
