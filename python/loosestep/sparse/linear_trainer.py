"""Trains a sparse linear model by the native engine: layout of features, merge period, number of epochs."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.sparse import csr_matrix

from loosestep import _core

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from loosestep.sparse.rates import Rate

LONGEST = 16384  # examples of a thread between two merges
SHORTEST = 64
MERGES = 8  # an epoch, at least, where there are examples enough
MEASURED = 8192  # examples of an epoch whose loss is taken


@dataclass
class Settings:
    """The settings of the engine; see `HogwildClassifier` for their meanings."""

    loss: str
    rate: Rate
    outputs: int = 1
    l2: float = 0.0
    l1: float = 0.0
    epsilon: float = 0.1
    intercept_step: float = 1.0
    regularize: Literal["swept", "touched"] = "swept"
    threads: int = 1
    head: int | Literal["auto"] = "auto"
    period: int | Literal["auto"] = "auto"
    adds: str = "racy"
    dtype: str = "float32"
    average: int = 0  # from this step on; 0: never
    deterministic: bool = False
    diagnose: bool = False
    discipline: str = "free"
    seed: int = 0
    device: str = "cpu"
    warps: int = 1024  # of a GPU, that take rows at once


@dataclass
class FeatureLayout:
    """Where features lie in the model: the popular ones first."""

    places: NDArray[np.uint32]  # of feature j; place 0 is the intercept
    head: int
    period: int
    tail_every: int = 1  # merges between two sweeps of the rest

    @classmethod
    def of(cls, settings: Settings, counts: NDArray[np.uint32], rows: int) -> FeatureLayout:
        """Return the layout: a feature that a thread meets at least once between merges has a private copy."""
        order = np.argsort(-counts.astype(np.int64), kind="stable")
        places = np.empty(counts.size, np.uint32)
        places[order] = np.arange(1, counts.size + 1, dtype=np.uint32)
        period = rows // (settings.threads * MERGES) if settings.period == "auto" else settings.period
        period = min(max(period, SHORTEST), LONGEST) if settings.period == "auto" else period
        head = cls.head_size(settings, counts, rows, period)
        return cls(places, head, period, cls.rarity(settings, counts, rows, period))

    @staticmethod
    def rarity(settings: Settings, counts: NDArray[np.uint32], rows: int, period: int) -> int:
        """Return the merges in a sweep of the tail, so that it costs at most half of the rows' updates."""
        if settings.deterministic or settings.period != "auto":
            return 1
        met = settings.threads * period * int(counts.sum(dtype=np.int64)) / max(rows, 1)  # between two merges
        return max(1, ceil(2 * int(np.count_nonzero(counts)) / max(met, 1)))

    @staticmethod
    def head_size(settings: Settings, counts: NDArray[np.uint32], rows: int, period: int) -> int:
        """The places of the head, the intercepts' among them."""
        if settings.deterministic:
            return counts.size + 1
        if settings.head != "auto":
            return min(settings.head, counts.size + 1)
        if settings.threads == 1:
            return 0
        popular = int(np.count_nonzero(counts.astype(np.float64) * period >= rows))
        return 1 + min(popular, 4 * period)


@dataclass
class Examples:
    """Sparse rows in scipy's arrays, and their targets."""

    starts: NDArray[np.int64]
    columns: NDArray[Any]
    values: NDArray[Any]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32] | None
    features: int

    @classmethod
    def of(cls, rows: Any, targets: NDArray[Any], weights: NDArray[Any] | None) -> Examples:
        """Return the examples of a CSR matrix; what is not float32 or float64 becomes float32."""
        values = rows.data if rows.data.dtype in (np.float32, np.float64) else rows.data.astype(np.float32)
        given = None if weights is None else np.ascontiguousarray(weights, np.float32)
        starts = np.ascontiguousarray(rows.indptr, np.int64)
        kind = rows.indices.dtype if rows.indices.dtype in (np.int32, np.int64) else np.int64
        columns, values = np.ascontiguousarray(rows.indices, kind), np.ascontiguousarray(values)
        return cls(starts, columns, values, np.ascontiguousarray(targets, np.float32), given, rows.shape[1])

    def __len__(self) -> int:
        return self.starts.size - 1

    def matrix(self) -> Any:
        """The rows as a scipy matrix."""
        return csr_matrix((self.values, self.columns, self.starts), (len(self), self.features))

    def counts(self, threads: int) -> NDArray[np.uint32]:
        """Return the rows that hold each feature; ValueError names the first row that holds nan or infinity."""
        return _core.count_features(self.starts, self.columns, self.values, self.features, threads)

    def part(self, begin: int, end: int) -> Examples:
        """Return some of the rows, without a copy where that is possible."""
        low, high = self.starts[begin], self.starts[end]
        weights = None if self.weights is None else self.weights[begin:end]
        starts = self.starts[begin : end + 1] - low
        content = self.columns[low:high], self.values[low:high], self.targets[begin:end]
        return Examples(starts, *content, weights, self.features)


@dataclass
class Trainer:
    """A model in training. `coef` (outputs, features) and `intercept` (outputs) are in the user's order."""

    settings: Settings
    layout: FeatureLayout
    epochs: int = 0
    steps: int = 0
    cuts: int = 0
    passes: int = 0
    cut: int = 0  # slopes beyond what the engine takes, of all passes
    told: list[dict[str, Any]] = field(default_factory=list)  # of the last pass; where they are diagnosed, of all

    def __post_init__(self) -> None:
        settings = self.settings
        places = self.layout.places.size + 1
        adagrad, average = settings.rate.name == "adagrad", settings.average > 0
        self.native = _core.LinearModel(
            places, self.layout.head, settings.outputs, settings.threads, settings.dtype, adagrad, average
        )

    def lay(self, examples: Examples) -> _core.SparseRows:
        """Return rows as the engine visits them: a copy, shuffled once."""
        return _core.SparseRows(
            examples.starts, examples.columns, examples.values, self.layout.places, self.layout.head,
            self.settings.outputs, examples.targets, examples.weights, self.settings.threads, self.settings.seed,
        )  # fmt: skip

    def epoch(self, parts: Iterable[_core.SparseRows], touched: NDArray[np.float32] | None = None) -> float:
        """Make one pass over the parts, one after the other; return the mean loss before each update.

        FloatingPointError where a weight is no longer finite.
        """
        told = [self.pass_over(rows, touched) for rows in parts]
        if not all(each["finite"] for each in told):
            raise FloatingPointError(
                f"the weights are no longer finite in epoch {self.epochs + 1}: the step size is too large for the "
                "scale of the features (scale them, or a smaller eta0)"
            )
        self.epochs += 1
        examples = sum(each["examples"] for each in told)
        return float(sum(each["loss"] * each["examples"] for each in told) / max(examples, 1))

    def pass_over(self, rows: _core.SparseRows, touched: NDArray[np.float32] | None) -> dict[str, Any]:
        told = self.native.epoch(rows, touched, self.options(rows.count))
        self.steps += told["examples"]
        self.passes, self.cut = self.passes + 1, self.cut + told["cut"]
        self.told = [*self.told, told] if self.settings.diagnose else [told]
        return told

    def options(self, rows: int) -> _core.EpochOptions:
        """Return the options of one call of the native engine: all of them, each by its name."""
        settings = self.settings
        averaging = 0 < settings.average <= self.steps + rows
        return {
            **settings.rate.options(self.epochs, self.cuts),
            "loss": settings.loss, "epsilon": settings.epsilon, "l2": settings.l2, "l1": settings.l1,
            "intercept_step": settings.intercept_step, "deterministic": settings.deterministic,
            "diagnose": settings.diagnose, "adds": settings.adds, "discipline": settings.discipline,
            "average": averaging, "seed": settings.seed, "epoch": self.passes, "steps": self.steps,
            "period": self.layout.period, "tail_every": self.layout.tail_every,
            "measure": max(1, rows // MEASURED),
        }  # fmt: skip

    def touched(self, counts: NDArray[np.uint32], rows: int) -> NDArray[np.float32] | None:
        """Return L2 by degree (Niu et al. 2011): l2 over the fraction of rows that hold the feature, by place."""
        if self.settings.regularize == "swept" or not self.settings.l2:
            return None
        out = np.zeros(counts.size + 1, np.float32)
        out[self.layout.places] = self.settings.l2 * rows / np.maximum(counts, 1)
        return out

    # --- from one call to the next -------------------------------------------------------------------------

    def serves(self, settings: Settings) -> bool:
        """Return whether this trainer's memory fits a model with these settings, too."""
        return self._memory(self.settings) == self._memory(settings)

    @staticmethod
    def _memory(settings: Settings) -> tuple[Any, ...]:
        return (
            settings.outputs, settings.threads, settings.dtype, settings.head, settings.period,
            settings.deterministic, settings.rate.name == "adagrad", settings.average > 0,
        )  # fmt: skip

    def going_on(self, settings: Settings, layout: Callable[[], FeatureLayout], anew: bool) -> Trainer:
        """Return this trainer with other settings, or one that goes on from its counts; `anew`: a new mean begins.

        One that is not this one has no weights but those of a mean that goes on.
        """
        cuts = self.cuts if settings.rate == self.settings.rate else 0
        if self.serves(settings) and not anew:
            self.told = self.told if self.settings.diagnose else []
            self.settings, self.cuts = settings, cuts
            return self
        kept = self.layout if self.serves(settings) else layout()
        other = Trainer(settings, kept, passes=self.passes, cuts=cuts)
        if settings.average and not anew:
            counts = [max(self.native.averaged)] * settings.threads
            other.load(*self._in_order(self.native.read))
            other.native.load_average(
                other._placed(*self._in_order(self.native.read_average)), counts, kept.places.size + 1
            )
        return other

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without weights that the estimator shows (an average keeps them)."""
        state = {name: value for name, value in self.__dict__.items() if name != "native"}
        if self.settings.average:
            size = self.layout.places.size + 1, self.settings.outputs
            iterate, mean = np.empty(size, np.float32), np.empty(size, np.float32)
            self.native.read(iterate)
            self.native.read_average(mean)
            state["averaging"] = iterate, mean, self.native.averaged, self.native.reach
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        iterate, *mean = state.pop("averaging", [None])
        self.__dict__.update(state)
        self.__post_init__()
        if iterate is not None:
            self.native.load(iterate)
            self.native.load_average(*mean)

    # --- weights in the user's order -----------------------------------------------------------------------

    def load(self, coef: NDArray[Any], intercept: NDArray[Any]) -> None:
        """Start from these."""
        self.native.load(self._placed(coef, intercept))

    def load_squares(self, squares: NDArray[Any]) -> None:
        """Load AdaGrad's sums in the form in which `squares` returns them."""
        self.native.load_squares(self._placed(squares[1:].T, squares[0]))

    def read(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (coef, intercept): the average where one was asked for and exists."""
        averaged = 0 < self.settings.average <= self.steps
        return self._in_order(self.native.read_average if averaged else self.native.read)

    def squares(self) -> NDArray[np.float32]:
        """Return AdaGrad's sums: (1 + features, outputs), the intercept's first."""
        weights = np.empty((self.layout.places.size + 1, self.settings.outputs), np.float32)
        self.native.read_squares(weights)
        return np.concatenate([weights[:1], weights[self.layout.places]])

    def _in_order(self, read: Callable[[NDArray[np.float32]], None]) -> tuple[NDArray[Any], NDArray[Any]]:
        weights = np.empty((self.layout.places.size + 1, self.settings.outputs), np.float32)
        read(weights)
        return weights[self.layout.places].T.astype(np.float64), weights[0].astype(np.float64)

    def _placed(self, coef: NDArray[Any], intercept: NDArray[Any]) -> NDArray[np.float32]:
        weights = np.empty((coef.shape[1] + 1, coef.shape[0]), np.float32)
        weights[0], weights[self.layout.places] = intercept, coef.T
        return weights
