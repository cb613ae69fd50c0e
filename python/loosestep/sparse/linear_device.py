"""Trains a sparse linear model on a GPU, by the Hogwild kernels of `loosestep.cuda`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from loosestep import ops
from loosestep.cuda import hogwild
from loosestep.cuda.launch import cupy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from loosestep.sparse.linear_trainer import Examples, Settings

SWEEPS = 16
"""Launches in a pass, where `period` is 'auto'; the penalty shrinks the weights after each."""
MOST_FEATURES = 2**31 - 1


@dataclass
class DeviceRows:
    """Rows in the GPU's memory, in the order in which they are visited, cut into the launches of a pass."""

    count: int
    launches: list[tuple[list[hogwild.CSR], int]]  # for each launch: the rows by output, and how many they are

    @classmethod
    def of(cls, examples: Examples, settings: Settings) -> DeviceRows:
        """Shuffle the rows once and send them."""
        if examples.features > MOST_FEATURES:
            raise ValueError(f"device='cuda' numbers features in 32 bits, got {examples.features} of them")
        order = np.random.default_rng(settings.seed).permutation(len(examples))
        rows, send = examples.matrix()[order], cupy().asarray
        starts = send(rows.indptr.astype(np.int64))
        columns, values = send(rows.indices.astype(np.int32)), send(rows.data.astype(np.float32))
        targets = [send(each) for each in by_output(examples.targets[order], settings.outputs)]
        weights = None if examples.weights is None else send(examples.weights[order])
        launches = []
        for begin, end in pairwise(cuts(len(examples), settings.period)):
            here = slice(begin, end)
            of_launch = weights if weights is None else weights[here]
            parts = [
                hogwild.CSR(starts[begin : end + 1], columns, values, each[here], of_launch) for each in targets
            ]
            launches.append((parts, end - begin))
        return cls(len(examples), launches)


def cuts(count: int, period: Any) -> list[int]:
    """Return where the launches of a pass begin, and where the last one ends."""
    length = max(1, -(-count // SWEEPS) if period == "auto" else period)
    return [*range(0, count, length), count]


def by_output(targets: NDArray[np.float32], outputs: int) -> list[NDArray[np.float32]]:
    """Return the targets of each output: with several, 1 for its own class and -1 for the others."""
    if outputs == 1:
        return [targets]
    return [np.where(targets == number, 1, -1).astype(np.float32) for number in range(outputs)]


@dataclass
class DeviceTrainer:
    """A model under training on a GPU, with the interface of `linear_trainer.Trainer`.

    The kernels do not regularize: after every launch the penalty of its steps shrinks the weights,
    w <- sign(w) max(0, exp(-l2 s) |w| - l1 s), where s is the sum of the launch's step sizes.
    """

    settings: Settings
    features: int
    epochs: int = 0
    steps: int = 0
    cuts: int = 0
    cut: int = 0
    weights: list[Any] = field(default_factory=list)  # of each output: the features' and the intercept, on the GPU

    def lay(self, examples: Examples) -> DeviceRows:
        """Return the rows in the GPU's memory."""
        return DeviceRows.of(examples, self.settings)

    def touched(self, counts: NDArray[np.uint32], rows: int) -> None:
        """Return None: L2 by degree is refused with device='cuda'."""

    def epoch(self, parts: Iterable[DeviceRows], touched: None = None) -> float:
        """Make one pass over the parts; return the mean loss, each row's before its own update.

        Raises FloatingPointError where a weight is no longer finite.
        """
        if not self.weights:
            self.load(np.zeros((self.settings.outputs, self.features)), np.zeros(self.settings.outputs))
        total, examples = 0.0, 0
        for rows in parts:
            total += sum(self.sweep(launch, count) for launch, count in rows.launches)
            examples += rows.count
        if not np.isfinite(total) or not all(ops.all_finite(each) for each in self.weights):
            raise FloatingPointError(
                f"the weights are no longer finite in epoch {self.epochs + 1}: the step size is too large for the "
                "scale of the features or for so many warps (scale them, or a smaller eta0 or n_threads)"
            )
        self.epochs += 1
        return total / max(examples, 1)

    def sweep(self, launch: list[hogwild.CSR], count: int) -> float:
        """Visit the rows of one launch, for every output, and shrink; return the sum of losses."""
        settings, rate = self.settings, self.rate()
        total = 0.0
        steps = step_sizes(rate, self.steps, count)
        for weights, rows in zip(self.weights, launch, strict=True):
            total += hogwild.linear(
                weights,
                rows,
                loss=settings.loss,
                rate=rate,
                adds="exact" if settings.adds == "exact" else "racy",
                steps=self.steps,
                intercept_step=settings.intercept_step,
                epsilon=settings.epsilon,
                warps=settings.warps,
            )
            if settings.l2 or settings.l1:
                ops.shrink(weights[:-1], float(np.exp(-settings.l2 * steps)), settings.l1 * steps)
        self.steps += count
        return total

    def rate(self) -> hogwild.StepSize:
        """Return the step sizes of this pass, in the kernels' terms."""
        given = self.settings.rate.options(self.epochs, self.cuts)
        return hogwild.StepSize(
            given["eta0"], given["schedule"], given["power_t"], given["alpha"], given["offset"]
        )

    def going_on(self, settings: Settings, features: int) -> DeviceTrainer:
        """Return a trainer with other settings that continues the counts; its weights are to be loaded."""
        cuts = self.cuts if settings.rate == self.settings.rate else 0
        return DeviceTrainer(settings, features, cuts=cuts)

    def load(self, coef: NDArray[Any], intercept: NDArray[Any]) -> None:
        """Start from these."""
        rows = np.concatenate([coef, np.reshape(intercept, (-1, 1))], axis=1).astype(np.float32)
        self.weights = [cupy().asarray(np.ascontiguousarray(row)) for row in rows]

    def read(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (coef, intercept)."""
        rows = np.stack([cupy().asnumpy(each) for each in self.weights]).astype(np.float64)
        return rows[:, :-1], rows[:, -1]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the weights out: the estimator shows them, and a copy may be read where there is no GPU."""
        return {**self.__dict__, "weights": []}


def step_sizes(rate: hogwild.StepSize, done: int, count: int) -> float:
    """Return the sum of the step sizes at steps done + 1 to done + count."""
    if rate.schedule == "constant":
        return rate.eta0 * count
    t = np.arange(done + 1, done + count + 1, dtype=np.float64)
    if rate.schedule == "invscaling":
        return float(np.sum(rate.eta0 / t**rate.power_t))
    return float(np.sum(1 / (rate.alpha * (rate.offset + t))))
