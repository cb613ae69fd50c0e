"""What the lock-free linear estimators have in common."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from warnings import warn

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from loosestep.errors import one_of, positive, whole
from loosestep.sparse.diagnosis import Diagnosis
from loosestep.sparse.engine import Examples, Layout, Settings, Trainer
from loosestep.sparse.losses import values
from loosestep.sparse.options import threads
from loosestep.sparse.rates import Rate

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPARSE_INTERCEPT = 0.01  # of the step size: on sparse rows the intercept moves at every one, and would swing
PENALTIES = ("l2", "l1", "elasticnet", None)


class Hogwild(BaseEstimator):  # type: ignore[misc]
    """Trains `coef_` and `intercept_`; classifier and regressor say what the targets are."""

    losses: tuple[str, ...] = ()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # --- the parameters, checked and put into the engine's terms -------------------------------------------

    def _check(self) -> None:
        threads(self.n_threads)
        for name in ("max_iter", "n_iter_no_change"):
            whole(name, getattr(self, name))
        positive("alpha", self.alpha, zero=True)
        for name, choices in self._choices().items():
            one_of(name, getattr(self, name), choices)
        for name, value in (("l1_ratio", self.l1_ratio), ("validation_fraction", self.validation_fraction)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {value!r}")
        for name in ("head", "period"):
            if getattr(self, name) != "auto":
                whole(name, getattr(self, name), 0 if name == "head" else 1)
        if self.deterministic and self.head != "auto":
            raise ValueError("deterministic=True keeps all of the model in the head: head must be 'auto'")
        if self.deterministic and self.dtype != "float32":
            raise ValueError("deterministic=True keeps all of the model in the head, which is float32")

    def _choices(self) -> dict[str, tuple[Any, ...]]:
        return {
            "loss": self.losses, "penalty": PENALTIES, "dtype": ("float32", "bfloat16"), "adds": ("racy", "exact"),
            "regularize": ("swept", "touched"),
        }  # fmt: skip

    def _settings(self, outputs: int, sparse: bool) -> Settings:
        share = {"l2": 0.0, "l1": 1.0, "elasticnet": self.l1_ratio, None: 0.0}[self.penalty]
        alpha = self.alpha if self.penalty is not None else 0.0
        loss = self._loss(outputs)
        rate = Rate(self.learning_rate, self.eta0, self.power_t, self.decay, self.alpha, loss)
        seed = int(check_random_state(self.random_state).randint(2**31))
        return Settings(
            loss, rate, outputs, alpha * (1 - share), alpha * share, self.epsilon,
            float(self.fit_intercept) * (SPARSE_INTERCEPT if sparse else 1.0), self.regularize,
            threads(self.n_threads), self.head, self.period, self.adds, self.dtype, int(self.average),
            self.deterministic, self.diagnose, seed=seed,
        )  # fmt: skip

    def _loss(self, outputs: int) -> str:
        return str(self.loss)

    # --- training ------------------------------------------------------------------------------------------

    def _train(self, examples: Examples, outputs: int, sparse: bool, held_out: Examples | None) -> None:
        settings = self._settings(outputs, sparse)
        counts = examples.counts(settings.threads)
        trainer = Trainer(settings, Layout.of(settings, counts, len(examples)))
        if self.warm_start and hasattr(self, "coef_"):
            trainer.load(self.coef_, self.intercept_, getattr(self, "squares_", None))
        laid = self._laid(trainer, examples)
        touched = trainer.touched(counts, len(examples))
        self._epochs(trainer, laid, touched, held_out)
        self._keep(trainer)
        self.n_iter_ = trainer.epochs

    def _laid(self, trainer: Trainer, examples: Examples) -> Any:
        """All rows at once, or a function that lays out one block after the other."""
        if self.block_rows is None or self.block_rows >= len(examples):
            rows = trainer.lay(examples)
            return lambda: (rows,)
        whole("block_rows", self.block_rows)
        edges = [*range(0, len(examples), self.block_rows), len(examples)]
        parts = list(pairwise(edges))
        random = np.random.default_rng(trainer.settings.seed)
        return lambda: (trainer.lay(examples.part(*parts[place])) for place in random.permutation(len(parts)))

    def _epochs(self, trainer: Trainer, laid: Any, touched: Any, held_out: Examples | None) -> None:
        best, without = np.inf, 0
        self.loss_curve_: list[float] = []
        for _ in range(self.max_iter):
            began = time.perf_counter()
            loss = trainer.epoch(laid(), touched)
            if held_out is not None:
                loss = self._held_out_loss(trainer, held_out)
            self.loss_curve_.append(loss)
            self._say(trainer, loss, time.perf_counter() - began)
            without = 0 if self.tol is None or loss < best - self.tol else without + 1
            best = min(best, loss)
            if self.tol is not None and without >= self.n_iter_no_change:
                if self.learning_rate != "adaptive" or self.eta0 * 0.2**trainer.cuts < 1e-6:
                    return
                trainer.cuts, without = trainer.cuts + 1, 0
        if self.tol is not None:
            warn(f"max_iter={self.max_iter} passes did not reach tol={self.tol}", ConvergenceWarning, stacklevel=4)

    def _say(self, trainer: Trainer, loss: float, seconds: float) -> None:
        if self.verbose:
            rate = trainer.told[-1]["examples"] / seconds
            print(f"epoch {trainer.epochs}: loss {loss:.6g}, {rate:,.0f} examples/s", flush=True)

    def _held_out_loss(self, trainer: Trainer, held_out: Examples) -> float:
        """By the weights as they are, averaged ones where they are asked for."""
        coef, intercept = trainer.read()
        scores = held_out.matrix() @ coef.T + intercept
        losses = values(trainer.settings.loss, scores, held_out.targets, self.epsilon)
        return float(np.average(losses, weights=held_out.weights))

    def _keep(self, trainer: Trainer) -> None:
        if trainer.cut:
            words = (
                f"{trainer.cut} slopes of the loss were beyond 1e12 and cut off: the step size is too large for "
            )
            warn(
                words + "the scale of the features (scale them, or a smaller eta0)",
                ConvergenceWarning,
                stacklevel=4,
            )
        self.coef_, self.intercept_ = trainer.read()
        self.t_ = 1.0 + trainer.steps
        self._trainer = trainer
        if trainer.settings.rate.name == "adagrad":
            self.squares_ = trainer.squares()
        if self.diagnose:
            self.diagnosis_ = Diagnosis.of(trainer)

    def _go_on(self, examples: Examples, outputs: int, sparse: bool) -> None:
        """One pass over a block, from where the last one ended."""
        counts = examples.counts(threads(self.n_threads))
        trainer = getattr(self, "_trainer", None)
        if trainer is None:
            settings = self._settings(outputs, sparse)
            trainer = Trainer(settings, Layout.of(settings, counts, len(examples)))
            if hasattr(self, "coef_"):
                trainer.load(self.coef_, self.intercept_, getattr(self, "squares_", None))
                trainer.steps, trainer.epochs = int(self.t_) - 1, self.n_iter_
        trainer.epoch((trainer.lay(examples),), trainer.touched(counts, len(examples)))
        self._keep(trainer)
        self.n_iter_ = trainer.epochs

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_trainer"}

    def _split(self, examples: Examples) -> tuple[Examples, Examples | None]:
        """(to train, to hold out): the rows at the end, after a shuffle of all."""
        if not self.early_stopping:
            return examples, None
        held = int(len(examples) * self.validation_fraction)
        if not 0 < held < len(examples):
            raise ValueError(
                f"validation_fraction={self.validation_fraction!r} of {len(examples)} rows holds out {held}: "
                "there must be rows to train and rows to hold out"
            )
        order = check_random_state(self.random_state).permutation(len(examples))
        rows, weights = examples.matrix(), examples.weights
        parts = [
            Examples.of(rows[part], examples.targets[part], None if weights is None else weights[part])
            for part in (np.sort(order[held:]), np.sort(order[:held]))
        ]
        return parts[0], parts[1]

    def _rows(self, X: Any, y: Any, reset: bool) -> tuple[Any, Any, bool]:
        """(rows as CSR, targets, did they come sparse)."""
        kinds = [np.float64, np.float32]
        numeric = isinstance(self, RegressorMixin)
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=kinds, y_numeric=numeric, reset=reset)
        return sp.csr_matrix(X), y, sp.issparse(X)

    def _weights(self, given: Any, rows: Any) -> NDArray[np.float32] | None:
        if given is None:
            return None
        checked = _check_sample_weight(given, rows, dtype=np.float64, ensure_non_negative=True)
        return np.asarray(checked, np.float32)

    def _scores(self, X: Any) -> NDArray[Any]:
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", reset=False)
        scores = safe_sparse_dot(X, self.coef_.T, dense_output=True) + self.intercept_
        return np.asarray(scores.ravel() if scores.shape[1] == 1 else scores)
