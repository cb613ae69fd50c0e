"""The base of the lock-free linear estimators."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from warnings import warn

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import check_is_fitted, validate_data

from loosestep.foundation import checks
from loosestep.sparse.diagnosis import Diagnosis
from loosestep.sparse.linear_trainer import Examples, FeatureLayout, Settings, Trainer
from loosestep.sparse.losses import values
from loosestep.sparse.parameters import flag, real, seeded, threads
from loosestep.sparse.rates import Rate
from loosestep.sparse.validation import room, sound
from loosestep.sparse.warm_start import AnyTrainer, WarmStart, new_trainer

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPARSE_INTERCEPT = 0.01  # of the step size: on sparse rows the intercept moves at every one, and would swing
PENALTIES = ("l2", "l1", "elasticnet", None)
WARPS = 1024  # of a GPU that take rows at once, where n_threads does not say
ON_DEVICE = {
    "average": False, "deterministic": False, "diagnose": False, "dtype": "float32", "regularize": "swept",
    "head": "auto", "multi_class": "ovr",
}  # fmt: skip
"""Options that device='cuda' leaves no choice of, and what they must be."""


class HogwildEstimator(BaseEstimator):  # type: ignore[misc]
    """Trains `coef_` and `intercept_`; classifier and regressor define the targets."""

    losses: tuple[str, ...] = ()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # --- the parameters, checked and put into the engine's terms -------------------------------------------

    def _check(self) -> None:
        threads(self.n_threads)
        for name in ("max_iter", "n_iter_no_change"):
            checks.integer(name, getattr(self, name))
        if self.block_rows is not None:
            checks.integer("block_rows", self.block_rows)
        self._check_numbers()
        for name, choices in self._choices().items():
            checks.one_of(name, getattr(self, name), choices)
        for name in ("fit_intercept", "early_stopping", "warm_start", "deterministic", "diagnose"):
            flag(name, getattr(self, name))
        seeded(self.random_state)
        for name in ("head", "period"):
            if getattr(self, name) != "auto":
                checks.integer(name, getattr(self, name), 0 if name == "head" else 1)
        if self.deterministic and self.head != "auto":
            raise ValueError("deterministic=True keeps all of the model in the head: head must be 'auto'")
        if self.deterministic and self.dtype != "float32":
            raise ValueError("deterministic=True keeps all of the model in the head, which is float32")
        if self.device == "cuda":
            self._check_device()

    def _check_device(self) -> None:
        """Refuse what the kernels of a GPU do not have."""
        for name, wanted in ON_DEVICE.items():
            if getattr(self, name, wanted) != wanted:
                got = getattr(self, name)
                raise ValueError(
                    f"device='cuda' needs {name}={wanted!r}, got {got!r}: the GPU's kernels have no more"
                )
        if self.learning_rate == "adagrad":
            raise ValueError("device='cuda' has no learning_rate='adagrad': choose another, or device='cpu'")

    def _check_numbers(self) -> None:
        for name in ("alpha", "epsilon"):
            checks.positive(name, getattr(self, name), zero=True)
        for name in ("eta0", "power_t", "decay"):
            real(name, getattr(self, name))
        if self.tol is not None and self.tol != -np.inf:
            real("tol", self.tol)
        for name in ("l1_ratio", "validation_fraction"):
            real(name, getattr(self, name))
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)!r}")
        for name in ("average", "verbose"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                checks.integer(name, getattr(self, name), 0)

    def _choices(self) -> dict[str, tuple[Any, ...]]:
        return {
            "loss": self.losses, "penalty": PENALTIES, "dtype": ("float32", "bfloat16"), "adds": ("racy", "exact"),
            "regularize": ("swept", "touched"), "device": ("cpu", "cuda"),
        }  # fmt: skip

    def _settings(self, outputs: int, sparse: bool) -> Settings:
        share = {"l2": 0.0, "l1": 1.0, "elasticnet": self.l1_ratio, None: 0.0}[self.penalty]
        alpha = self.alpha if self.penalty is not None else 0.0
        loss = self._loss(outputs)
        rate = Rate(self.learning_rate, self.eta0, self.power_t, self.decay, self.alpha, loss)
        seed = int(seeded(self.random_state).randint(2**31))
        return Settings(
            loss, rate, outputs, alpha * (1 - share), alpha * share, self.epsilon,
            float(self.fit_intercept) * (SPARSE_INTERCEPT if sparse else 1.0), self.regularize,
            threads(self.n_threads), self.head, self.period, self.adds, self.dtype, int(self.average),
            self.deterministic, self.diagnose, seed=seed, device=self.device,
            warps=WARPS if self.n_threads in (None, -1) else threads(self.n_threads),
        )  # fmt: skip

    def _loss(self, outputs: int) -> str:
        return str(self.loss)

    # --- training ------------------------------------------------------------------------------------------

    def _train(self, examples: Examples, outputs: int, sparse: bool, held_out: Examples | None) -> None:
        with room(_described(examples, outputs)):
            self._train_there(examples, self._settings(outputs, sparse), held_out)

    def _train_there(self, examples: Examples, settings: Settings, held_out: Examples | None) -> None:
        counts = examples.counts(settings.threads)
        trainer = new_trainer(
            settings, lambda: FeatureLayout.of(settings, counts, len(examples)), examples.features
        )
        if self._warm():
            self._begin(trainer, settings.outputs, examples.features)
        laid = self._laid(trainer, examples)
        touched = trainer.touched(counts, len(examples))
        self._epochs(trainer, laid, touched, held_out)
        self._keep(trainer)

    def _warm(self) -> bool:
        """Return whether a fit begins at the existing weights."""
        return bool(self.warm_start) and hasattr(self, "coef_")

    def _begin(self, trainer: AnyTrainer, outputs: int, features: int) -> None:
        start = WarmStart.of(self, outputs, features)
        if start is not None:
            trainer.load(start.coef, start.intercept)
            if (
                start.squares is not None
                and isinstance(trainer, Trainer)
                and trainer.settings.rate.name == "adagrad"
            ):
                trainer.load_squares(start.squares)

    def _laid(self, trainer: AnyTrainer, examples: Examples) -> Any:
        """Return all rows at once, or a function that lays out one block after the other."""
        if self.block_rows is None or self.block_rows >= len(examples):
            rows = trainer.lay(examples)
            return lambda: (rows,)
        edges = [*range(0, len(examples), self.block_rows), len(examples)]
        parts = list(pairwise(edges))
        random = np.random.default_rng(trainer.settings.seed)
        return lambda: (trainer.lay(examples.part(*parts[place])) for place in random.permutation(len(parts)))

    def _epochs(self, trainer: AnyTrainer, laid: Any, touched: Any, held_out: Examples | None) -> None:
        best, without = np.inf, 0
        self.loss_curve_: list[float] = []
        for _ in range(self.max_iter):
            loss = self._epoch(trainer, laid, touched, held_out)
            self.loss_curve_.append(loss)
            without = 0 if self.tol is None or loss < best - self.tol else without + 1
            best = min(best, loss)
            if self.tol is not None and without >= self.n_iter_no_change:
                if self.learning_rate != "adaptive" or self.eta0 * 0.2**trainer.cuts < 1e-6:
                    return
                trainer.cuts, without = trainer.cuts + 1, 0
        if self.tol is not None:
            warn(f"max_iter={self.max_iter} passes did not reach tol={self.tol}", ConvergenceWarning, stacklevel=5)

    def _epoch(self, trainer: AnyTrainer, laid: Any, touched: Any, held_out: Examples | None = None) -> float:
        """Make one pass; return its mean loss, or the held-out loss."""
        began, steps = time.perf_counter(), trainer.steps
        loss = trainer.epoch(laid(), touched)
        seconds = time.perf_counter() - began
        if held_out is not None:
            loss = self._held_out_loss(trainer, held_out)
        if self.verbose:
            rate = (trainer.steps - steps) / seconds
            print(f"epoch {trainer.epochs}: loss {loss:.6g}, {rate:,.0f} examples/s", flush=True)
        return loss

    def _held_out_loss(self, trainer: AnyTrainer, held_out: Examples) -> float:
        """Return the loss of held-out rows by the present weights, averaged where that was asked for."""
        coef, intercept = trainer.read()
        scores = held_out.matrix() @ coef.T + intercept
        losses = values(trainer.settings.loss, scores, held_out.targets, self.epsilon)
        return float(np.average(losses, weights=held_out.weights))

    def _keep(self, trainer: AnyTrainer) -> None:
        if trainer.cut:
            words = (
                f"{trainer.cut} slopes of the loss were beyond 1e12 and cut off: the step size is too large for "
            )
            warn(
                words + "the scale of the features (scale them, or a smaller eta0)",
                ConvergenceWarning,
                stacklevel=5,
            )
        self.coef_, self.intercept_ = trainer.read()
        self.t_ = 1.0 + trainer.steps
        self.n_iter_ = trainer.epochs
        self._trainer = trainer
        host = trainer if isinstance(trainer, Trainer) else None
        self._show("squares_", host.squares() if host and host.settings.rate.name == "adagrad" else None)
        self._show("diagnosis_", Diagnosis.of(host) if host and self.diagnose else None)

    def _show(self, name: str, value: Any) -> None:
        """Set an attribute that only some options have; what an earlier call set goes."""
        if value is not None:
            setattr(self, name, value)
        elif hasattr(self, name):
            delattr(self, name)

    def _go_on(self, examples: Examples, outputs: int, sparse: bool) -> None:
        """Make one pass over a block, with the present options and weights."""
        if self.early_stopping:
            raise ValueError(
                "early_stopping=True holds rows out, which partial_fit cannot: set it to False, or use fit"
            )
        with room(_described(examples, outputs)):
            self._pass(examples, self._settings(outputs, sparse))

    def _pass(self, examples: Examples, settings: Settings) -> None:
        counts = examples.counts(settings.threads)
        start, before = WarmStart.of(self, settings.outputs, examples.features), getattr(self, "_trainer", None)

        def layout() -> FeatureLayout:
            return FeatureLayout.of(settings, counts, len(examples))

        if start is None:
            trainer = new_trainer(settings, layout, examples.features)
        else:
            trainer = start.trainer(before, settings, layout, examples.features)
        self._epoch(trainer, self._laid(trainer, examples), trainer.touched(counts, len(examples)))
        self._keep(trainer)

    def _split(self, examples: Examples) -> tuple[Examples, Examples | None]:
        """Return (rows to train, rows to hold out) from a shuffle of all; no row of weight 0 is held out."""
        if not self.early_stopping:
            return examples, None
        weights = examples.weights
        order = seeded(self.random_state).permutation(len(examples))
        some = order if weights is None else order[weights[order] > 0]
        held = int(len(examples) * self.validation_fraction)
        held = max(int(len(some) * self.validation_fraction), min(held, 1))
        if not 0 < held < len(some):
            which = "rows" if weights is None else "rows of weights above 0"
            raise ValueError(
                f"validation_fraction={self.validation_fraction!r} of {len(some)} {which} holds out {held}: "
                "there must be rows to train and rows to hold out"
            )
        out = np.zeros(len(examples), bool)
        out[some[:held]] = True
        rows = examples.matrix()
        train, test = (
            Examples.of(rows[part], examples.targets[part], None if weights is None else weights[part])
            for part in (~out, out)
        )
        return train, test

    def _rows(self, X: Any, y: Any, reset: bool) -> tuple[Any, Any, bool]:
        """Return (rows as CSR, targets, whether they were sparse)."""
        kinds = [np.float64, np.float32]
        numeric = isinstance(self, RegressorMixin)
        X, y = validate_data(self, sound(X), y, accept_sparse="csr", dtype=kinds, y_numeric=numeric, reset=reset)
        return sp.csr_matrix(X), y, sp.issparse(X)

    def _scores(self, X: Any) -> NDArray[Any]:
        check_is_fitted(self)
        X = validate_data(self, sound(X), accept_sparse="csr", reset=False)
        scores = safe_sparse_dot(X, self.coef_.T, dense_output=True) + self.intercept_
        return np.asarray(scores.ravel() if scores.shape[1] == 1 else scores)


def _described(examples: Examples, outputs: int) -> str:
    return f"a model of {examples.features} features and {outputs} outputs"
