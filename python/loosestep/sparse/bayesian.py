"""Logistic regression whose probabilities are averages over its posterior."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.extmath import softmax
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from loosestep.foundation import checks
from loosestep.optimizers.samplers import SGHMC
from loosestep.runtime.run import run
from loosestep.runtime.sampling.samples import Samples, of_arviz
from loosestep.sparse.labels import Classes, probabilities
from loosestep.sparse.parameters import seeded
from loosestep.strategies.one_shot import OneShotAveraging
from loosestep.transports.base import Transport
from loosestep.transports.simulated import Simulated

if TYPE_CHECKING:
    from loosestep.requests import Buffer

Array = NDArray[np.float64]
TURNS = 30  # of the power method
AGREE = 1.2  # of R-hat: above it a fit warns, and where batches make variances that many times too large
STEP = 0.1  # of a step of the sampler, in units of the inverse of the greatest curvature: its bias is 3 % there


class BayesianLogisticRegression(Classes, BaseEstimator):  # type: ignore[misc]
    """Logistic regression, or softmax for more than two classes, by `SGHMC`: draws w from the posterior

        exp(-sum_i loss(w, x_i, y_i) - alpha |w|^2 / 2),

    intercepts with the same prior N(0, 1 / alpha) as all weights. A probability is the mean over draws of each
    draw's, so a row far from all that was seen gets one near even, where the best w alone is sure: calibrated
    probabilities, if the prior is right. Every chain begins at 0 and moves in coordinates that are divided by the
    root of a bound on their curvature, in steps for which the greatest one is stable; `rhat` says whether
    chains agree.

    alpha: the precision of the prior.
    draws: of each chain. burn_in: steps before the first. thin: steps between two.
    friction: of SGHMC: less goes farther before it turns.
    batch_size: rows of a gradient, drawn anew each step; None: all rows. Batches add noise of their own: by
        default variances are about 1.3 times those of the posterior for halves, and 20 times for a fiftieth.
    on: a transport, each of whose workers is a chain, in this process; by default Simulated(4).
    random_state: a seed, of all noise.

    Fitted: `draws_` (chains, draws, outputs, features + 1, the intercept last), their means `coef_` and
    `intercept_`, `n_iter_` (steps of a chain). Values are float64. A fit warns (ConvergenceWarning) where its
    chains disagree, by split R-hat above 1.2, as they do where classes are far apart or columns far from 0; and
    where batches make variances more than 1.2 times those of the posterior.

    >>> import numpy as np
    >>> from loosestep.sparse import BayesianLogisticRegression
    >>> X = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    >>> model = BayesianLogisticRegression(draws=200, random_state=0).fit(X, [0, 0, 1, 1])
    >>> model.predict([[-3.0], [3.0]]).tolist()
    [0, 1]
    >>> bool(0.8 < model.predict_proba([[3.0]])[0, 1] < 0.99)
    True

    Reference: T. Chen, E. Fox, C. Guestrin, Stochastic Gradient Hamiltonian Monte Carlo, arXiv:1402.4102.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        draws: int = 100,
        burn_in: int = 200,
        thin: int = 5,
        friction: float = 0.1,
        batch_size: int | None = None,
        on: Transport | None = None,
        random_state: Any = None,
    ) -> None:
        self.alpha = alpha
        self.draws = draws
        self.burn_in = burn_in
        self.thin = thin
        self.friction = friction
        self.batch_size = batch_size
        self.on = on
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def fit(self, X: Any, y: Any) -> BayesianLogisticRegression:
        """Sample the posterior of rows X (array or CSR) with labels y. Return the estimator itself."""
        on = self._checked()
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=np.float64)
        check_classification_targets(y)
        self._meet_all(y)
        potential = Potential(X, self._numbers(y), self._outputs(), float(self.alpha))
        seed = int(seeded(self.random_state).randint(2**31))
        made = self._sample(potential, on, seed)
        self._warn(potential, made)
        self.draws_ = made * potential.scale
        mean = self.draws_.mean(axis=(0, 1))
        self.coef_, self.intercept_ = mean[:, :-1], mean[:, -1]
        self.n_iter_ = self.burn_in + self.draws * self.thin
        return self

    def _warn(self, potential: Potential, made: Array) -> None:
        """Warn of what draws in the sampler's coordinates are not."""
        apart = split_rhat(made)
        if apart > AGREE:
            warnings.warn(
                f"the chains disagree: R-hat is {apart:.3g}, and near 1 where they have forgotten their start; "
                "take more burn_in and draws, a larger thin, or standardized columns",
                ConvergenceWarning,
                stacklevel=3,
            )
        rows = self.batch_size
        if rows is not None and rows < potential.rows:
            share = (potential.rows / rows - 1) * STEP / potential.curvature() / (2 * self.friction)
            times = 1 + share * potential.rows * potential.spread(made.mean(axis=(0, 1)))
            if times > AGREE:
                warnings.warn(
                    f"gradients of {rows} of {potential.rows} rows make variances up to {times:.3g} times those "
                    "of the posterior: take larger batches, or batch_size=None",
                    ConvergenceWarning,
                    stacklevel=3,
                )

    def predict_proba(self, X: Any) -> Array:
        """Return the posterior predictive probabilities of the classes."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float64, reset=False)
        total: Any = 0.0
        outputs = self._outputs()
        weights = self.draws_.reshape(-1, *self.draws_.shape[2:])
        for draw in weights:
            scores = np.asarray(X @ draw[:, :-1].T) + draw[:, -1]
            total = total + (probabilities(scores[:, 0]) if outputs == 1 else softmax(scores, copy=False))
        return np.asarray(total / len(weights))

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithms of the probabilities."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def rhat(self) -> Array:
        """Return ArviZ's R-hat of each weight, (outputs, features + 1): below 1.01 the chains agree."""
        return self._statistic("rhat")

    def ess(self) -> Array:
        """Return ArviZ's effective sample size of each weight, (outputs, features + 1)."""
        return self._statistic("ess")

    def _statistic(self, name: str) -> Array:
        check_is_fitted(self)
        flat = self.draws_.reshape(*self.draws_.shape[:2], -1)
        return of_arviz(name, flat).reshape(self.draws_.shape[2:])

    def _scores(self, X: Any) -> Array:
        """Return log odds for two classes, else log probabilities."""
        told = self.predict_log_proba(X)
        return told[:, 1] - told[:, 0] if self.classes_.size == 2 else told

    def _checked(self) -> Transport:
        checks.positive("alpha", self.alpha)
        for name, least in (("draws", 1), ("burn_in", 0), ("thin", 1)):
            checks.integer(name, getattr(self, name), least)
        if self.batch_size is not None:
            checks.integer("batch_size", self.batch_size)
        if self.on is not None:
            checks.instance("on", self.on, Transport)
        return self.on or Simulated(4)

    def _sample(self, potential: Potential, on: Transport, seed: int) -> Array:
        """Return the draws in the sampler's coordinates, (chains, draws, outputs, features + 1)."""
        n = potential.rows
        sampler = SGHMC(STEP / potential.curvature() * n, examples=n, friction=self.friction)
        steps = self.burn_in + self.draws * self.thin
        batches = lambda rank, size: islice(self._batches(n, seed, rank), steps)  # noqa: E731
        with tempfile.TemporaryDirectory() as folder:
            samples = Samples(folder, self.burn_in, self.thin)
            run(
                OneShotAveraging(),
                potential.gradient,
                np.zeros(potential.outputs * potential.scale.size),
                batches,
                optimizer=sampler,
                on=on,
                seed=seed,
                samples=samples,
            )
            found = samples.draws()
        if len(found) < on.size:
            raise ValueError(
                f"on must have all its {on.size} workers in this process, which those of {on!r} are not"
            )
        return found.reshape(*found.shape[:2], potential.outputs, -1)

    def _batches(self, rows: int, seed: int, rank: int) -> Iterator[Any]:
        """Yield the rows of gradients: None for all."""
        if self.batch_size is None or self.batch_size >= rows:
            yield from repeat(None)
        draw = np.random.default_rng([seed, rank])
        while True:
            yield draw.choice(rows, self.batch_size, replace=False)


class Potential:
    """The mean over rows of -log posterior, of weights (outputs, features + 1) divided by `scale`, flat."""

    def __init__(self, X: Any, labels: NDArray[np.intp], outputs: int, alpha: float) -> None:
        self.X, self.outputs, self.alpha = X, outputs, alpha
        self.rows, features = X.shape
        self.targets = np.eye(max(outputs, 2))[labels][:, 1:] if outputs == 1 else np.eye(outputs)[labels]
        self.steepest = 0.25 if outputs == 1 else 0.5  # the greatest curvature of a loss in its scores
        squares = (X.multiply(X) if sp.issparse(X) else X * X).sum(axis=0)
        lengths = np.append(np.asarray(squares).reshape(features), self.rows)
        self.scale = 1 / np.sqrt(self.steepest * lengths + alpha)

    def scores(self, w: Array, X: Any) -> Array:
        return np.asarray(X @ w[:, :-1].T) + w[:, -1]

    def weights(self, x: Buffer) -> Array:
        return np.asarray(x).reshape(self.outputs, -1) * self.scale

    def gradient(self, x: Buffer, batch: NDArray[np.intp] | None) -> tuple[float, Array]:
        """Return the value and the gradient on the rows of a batch."""
        X, targets = (self.X, self.targets) if batch is None else (self.X[batch], self.targets[batch])
        w = self.weights(x)
        scores = self.scores(w, X)
        if self.outputs == 1:
            loss = np.logaddexp(0, scores) - targets * scores
            miss = probabilities(scores[:, 0])[:, 1:] - targets
        else:
            top = scores.max(axis=1, keepdims=True)
            loss = top[:, 0] + np.log(np.exp(scores - top).sum(axis=1)) - (targets * scores).sum(axis=1)
            miss = softmax(scores) - targets
        miss /= len(targets)
        slope = np.hstack([np.asarray((X.T @ miss).T), miss.sum(axis=0)[:, None]]) + self.alpha / self.rows * w
        value = float(loss.mean()) + self.alpha / (2 * self.rows) * float((w * w).sum())
        return value, (slope * self.scale).reshape(-1)

    def spread(self, x: Buffer) -> float:
        """Return the largest variance of one row's gradient among the weights, at x near the mode."""
        scores = self.scores(self.weights(x), self.X)
        odds = probabilities(scores[:, 0])[:, 1:] if self.outputs == 1 else softmax(scores)
        miss = (odds - self.targets) ** 2 / self.rows
        squares = self.X.multiply(self.X) if sp.issparse(self.X) else self.X * self.X
        found = np.hstack([np.asarray((squares.T @ miss).T), miss.sum(axis=0)[:, None]])
        return float((found * self.scale**2).max())

    def curvature(self) -> float:
        """Return a bound on the curvature of the sum over rows, by the power method and a tenth more."""
        x, length = np.ones(self.scale.size) + np.arange(self.scale.size) % 7, 1.0
        for _ in range(TURNS):
            x /= np.linalg.norm(x)
            w = x * self.scale
            scores = self.X @ w[:-1] + w[-1]
            x = self.scale * (self.steepest * np.append(self.X.T @ scores, scores.sum()) + self.alpha * w)
            length = float(np.linalg.norm(x))
        return 1.1 * length


def split_rhat(draws: Array) -> float:
    """Return the largest split R-hat of draws (chains, draws, ...): of halves of chains; 0 of fewer than 4 draws.

    >>> split_rhat(np.array([[[0.0], [1.0], [0.0], [1.0]]]))
    0.7071067811865476

    Reference: A. Gelman et al., Bayesian Data Analysis, 3rd edition, section 11.4.
    """
    half = draws.shape[1] // 2
    if half < 2:
        return 0.0
    parts = np.concatenate([draws[:, :half], draws[:, -half:]])
    within, between = parts.var(axis=1, ddof=1).mean(axis=0), parts.mean(axis=1).var(axis=0, ddof=1)
    return float(np.sqrt(1 - 1 / half + (between / within).max()))
