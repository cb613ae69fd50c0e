"""A model, data, workers and an optimizer, for any strategy: what the command line runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING

from loosestep.data import global_batches, shards, steps_per_epoch
from loosestep.foundation import units
from loosestep.optimizers.schedules import factor
from loosestep.planner.prediction import predict
from loosestep.planner.probing.measure import durations
from loosestep.runtime.run import run
from loosestep.strategies.base import Need
from loosestep.transports.simulated import Simulated
from loosestep.transports.simulated.stragglers import Constant

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from loosestep.data import Dataset
    from loosestep.data.models import Classifier, Model
    from loosestep.optimizers import Optimizer
    from loosestep.optimizers.schedules import Scaling
    from loosestep.planner.prediction import Prediction
    from loosestep.runtime.numpy_model import Batches
    from loosestep.runtime.result import Progress, Result
    from loosestep.strategies.base import Strategy
    from loosestep.transports.base import Transport

TIMED = 30  # gradients, by which a prediction knows how long a step takes


@dataclass(frozen=True)
class Experiment:
    """Everything but the strategy. Rows are dealt anew every epoch; an evaluation ends each epoch.

    evaluations: about how many in an epoch.
    """

    data: Dataset
    model: Model
    on: Transport
    optimizer: Optimizer
    batch: int
    epochs: int
    seed: int
    by_label: bool = False
    fraction: float | None = None  # of the rows, which each worker keeps
    scale_rate: Scaling = "none"
    evaluations: int = 1

    @cached_property
    def classifier(self) -> Classifier:
        """The model for this data."""
        return self.model.build(self.data.features, self.data.classes)

    @property
    def steps_per_epoch(self) -> int:
        """Local steps of the worker that has most rows."""
        return steps_per_epoch(len(self.data.y_train), self.batch, self.on.size, self.fraction)

    @property
    def steps(self) -> int:
        """Local steps in all."""
        return self.epochs * self.steps_per_epoch

    @property
    def every(self) -> int:
        """Local steps from one evaluation to the next."""
        return max(1, self.steps_per_epoch // self.evaluations)

    def varied(self, optimizer: Optimizer | None, seed: int) -> Experiment:
        """Return the same experiment with another seed and, if one is given, another optimizer."""
        return replace(self, optimizer=optimizer or self.optimizer, seed=seed)

    def run(self, strategy: Strategy, callback: Callable[[Progress], object], **options: Any) -> Result:
        """Train with a strategy; `options` are those of `loosestep.run` for checkpoints."""
        return run(
            strategy,
            self.classifier.gradient,
            self.classifier.init(self.seed),
            self.batches(strategy),
            optimizer=self.optimizer,
            on=self.on,
            seed=self.seed,
            evaluate=lambda params: self.classifier.evaluate(params, self.data.test),
            every=self.every,
            steps_per_epoch=self.steps_per_epoch,
            scale_rate=self.scale_rate,
            shapes=self.classifier.shapes,
            callback=callback,
            **options,
        )

    def batches(self, strategy: Strategy) -> Batches:
        """Return the batches: each worker's own, or global ones where the strategy divides them."""
        if Need.GLOBAL_BATCHES not in strategy.needs:
            length = self.batch, self.epochs, self.seed
            return shards(self.data.train, *length, by_label=self.by_label, fraction=self.fraction)
        if self.by_label or self.fraction is not None:
            how = "by label" if self.by_label else "by fraction"
            raise ValueError(f"{strategy!r} shares out batches of all rows, so they cannot be dealt {how}")
        return global_batches(self.data.train, self.batch * self.on.size, self.epochs, self.seed)

    def predicted(self, strategy: Strategy, probe: str) -> Prediction:
        """Return what a run takes on the cluster of a probe's file, with steps as long as they are here now."""
        x, y = self.data.train
        batch, start = (x[: self.batch], y[: self.batch]), self.classifier.init(self.seed)
        steps = durations(self.on, lambda: self.classifier.gradient(start, batch), TIMED, self.classifier.size)
        cluster = Simulated.like(probe).scaled(self.on.size)
        on = replace(cluster, step_time=fmean(map(fmean, steps)), stragglers=Constant())
        return predict(
            strategy, self.classifier.size, on, steps=self.steps, optimizer=self.optimizer, samples=self.batch
        )

    def links(self) -> dict[str, str]:
        """Describe the simulated network in the units in which networks are sold."""
        on = self.on
        if not isinstance(on, Simulated):
            return {}
        latency, bandwidth = on.latency, on.bandwidth
        if not isinstance(latency, (int, float)) or not isinstance(bandwidth, (int, float)):
            return {}  # a table
        speed = f"{bandwidth * 8e-6:g} Mbit/s, {latency * 1e3:g} ms a message"
        return {"links": f"{speed}; a local step takes {on.step_time * 1e3:g} ms or as the stragglers say"}

    def facts(self) -> dict[str, str]:
        """Describe the experiment, by name of each part."""
        size, total = self.classifier.size, self.batch * self.on.size
        rate, steps = self.optimizer.rate, self.steps_per_epoch
        by = factor(self.scale_rate, self.on.size)
        dealt = ", dealt by label" if self.by_label else ""
        dealt += "" if self.fraction is None else f", {units.share(self.fraction)} for each worker"
        return {
            "data": str(self.data) + dealt,
            "model": f"{self.model!r}, {units.times(size, 'parameter')}, {units.size(4 * size)}",
            "workers": f"{self.on.size} on {self.on!r}, CPU"
            + ("; seconds are virtual" if self.on.virtual else ""),
            **self.links(),
            "batch": f"{self.batch} a worker, {total} together",
            "length": f"{units.times(self.epochs, 'epoch')} of {units.times(steps, 'local step')}",
            "optimizer": f"{self.optimizer!r}, learning rate {rate}",
            "scale_rate": f"{self.scale_rate}: the learning rate times {by:g}, for {self.on.size} workers",
            "seed": str(self.seed),
        }
