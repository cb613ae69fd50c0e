"""The weights and counts from which `partial_fit` goes on: those that the estimator shows when it is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from loosestep.foundation import checks
from loosestep.sparse.linear_device import DeviceTrainer
from loosestep.sparse.linear_trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from loosestep.sparse.linear_trainer import FeatureLayout, Settings


AnyTrainer: TypeAlias = "Trainer | DeviceTrainer"


def new_trainer(settings: Settings, layout: Callable[[], FeatureLayout], features: int) -> AnyTrainer:
    """Return a trainer without weights, on the device that the settings name; only the CPU's has a layout."""
    if settings.device == "cuda":
        return DeviceTrainer(settings, features)
    return Trainer(settings, layout())


@dataclass(frozen=True)
class WarmStart:
    """`coef_`, `intercept_` and `squares_` of an estimator, its steps (`t_` - 1) and epochs (`n_iter_`)."""

    coef: NDArray[Any]
    intercept: NDArray[Any]
    squares: NDArray[Any] | None
    steps: int
    epochs: int

    @classmethod
    def of(cls, estimator: Any, outputs: int, features: int) -> WarmStart | None:
        """Return the start of an estimator, None if it has no weights yet; ValueError for unfitting weights."""
        if not hasattr(estimator, "coef_"):
            return None
        coef = _weights(estimator, "coef_", (outputs, features))
        intercept = _weights(estimator, "intercept_", (outputs,))
        squares = None
        if hasattr(estimator, "squares_"):
            squares = _weights(estimator, "squares_", (1 + features, outputs))
        t = getattr(estimator, "t_", 1.0)
        checks.positive("t_", t)
        return cls(
            coef,
            intercept,
            squares,
            max(int(t) - 1, 0),
            checks.integer("n_iter_", getattr(estimator, "n_iter_", 0), 0),
        )

    def trainer(
        self, before: AnyTrainer | None, settings: Settings, layout: Callable[[], FeatureLayout], features: int
    ) -> AnyTrainer:
        """Return a trainer that goes on from here with these settings: the one before where it fits."""
        if settings.device == "cuda":
            return self._on_device(before, settings, features)
        host = before if isinstance(before, Trainer) else None
        averages = host is not None and self._is_the_mean_of(host, settings)
        if host is None:
            trainer = Trainer(settings, layout(), passes=self.epochs)
        else:
            trainer = host.going_on(settings, layout, anew=bool(settings.average) and not averages)
        if not averages:
            trainer.load(self.coef, self.intercept)
        if self.squares is not None and settings.rate.name == "adagrad":
            trainer.load_squares(self.squares)
        trainer.steps, trainer.epochs, trainer.cut = self.steps, self.epochs, 0
        return trainer

    def _on_device(self, before: AnyTrainer | None, settings: Settings, features: int) -> DeviceTrainer:
        if isinstance(before, DeviceTrainer):
            trainer = before.going_on(settings, features)
        else:
            trainer = DeviceTrainer(settings, features)
        trainer.load(self.coef, self.intercept)
        trainer.steps, trainer.epochs = self.steps, self.epochs
        return trainer

    def _is_the_mean_of(self, before: Trainer, settings: Settings) -> bool:
        """Return whether the weights are those of an averaging trainer, so that its mean goes on."""
        if not settings.average or before.settings.average != settings.average:
            return False
        coef, intercept = before.read()
        return np.array_equal(self.coef, coef) and np.array_equal(self.intercept, intercept)


def _weights(estimator: Any, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return an attribute of that shape, finite in float32, in which it is trained."""
    if not hasattr(estimator, name):
        raise ValueError(f"{name} must be set where coef_ is, with the shape {shape}")
    value = np.asarray(getattr(estimator, name))
    if value.shape != shape or value.dtype.kind not in "fiu":
        raise ValueError(
            f"{name} must be numbers of the shape {shape}, by X and targets, got {value.dtype} of {value.shape}"
        )
    with np.errstate(over="ignore"):
        finite = np.isfinite(value.astype(np.float32)).all()
    if not finite:
        raise ValueError(f"{name} must be finite in float32, in which it is trained")
    return value
