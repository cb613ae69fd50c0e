"""What an experiment declares, and how one run of it is carried out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite, isnan
from typing import Any, TypeAlias

import loosestep as ls
from bench.papers.drawing import Curves
from bench.papers.rows import MADE_UP, rows_of
from bench.papers.tables import ACCURACY, Plain
from bench.papers.types import Contender, Picture, Point, Run, Table
from loosestep.data import Dataset, global_batches, shards, steps_per_epoch
from loosestep.foundation.errors import LoosestepError, divergence

SMOKE_STEPS = 6


@dataclass(frozen=True)
class Study:
    """An experiment. `measure(contender, seed, every)` makes a run's points; `train` unless it says otherwise."""

    contenders: tuple[Contender, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    evaluations: int = 20  # of a run
    pictures: tuple[Picture, ...] = (Curves(),)  # below each other in one file
    tables: tuple[Table, ...] = (Plain(),)
    measure: Callable[[Contender, int, int], Run] | None = None
    tuning_seed: int = 100
    best: Callable[[Sequence[Point]], float | None] = ACCURACY.of  # greatest of what a contender tries

    def check(self) -> None:
        """Refuse what a page could not show."""
        if len(self.seeds) < 3:
            raise ValueError(f"a study needs at least 3 seeds for a spread, got {self.seeds}")
        if self.tuning_seed in self.seeds:
            raise ValueError(f"what is tried is compared on a seed that is not shown, got {self.tuning_seed}")

    def run(self, contender: Contender, seed: int) -> Run:
        """Carry out one run."""
        every = max(1, contender.steps // self.evaluations)
        return (self.measure or train)(contender, seed, every)

    def chosen(self, contender: Contender, run: Callable[[Contender, int], Run]) -> Contender:
        """Return the best on the tuning seed of what a contender tries; `run` makes or finds a run."""
        return max(
            contender.candidates(), key=lambda one: self.merit(run(one, self.tuning_seed)), default=contender
        )

    def merit(self, run: Run) -> float:
        """Return what the best of several has most of; least of all has a run that diverged."""
        value = None if run.diverged or not run.points else self.best(run.points)
        return -inf if value is None or isnan(value) else value

    def smoke(self) -> Study:
        """The same code in a second: a few steps on made-up rows, once."""
        small = (
            replace(each, steps=SMOKE_STEPS, data=MADE_UP, rows=None, tried=each.tried[:1])
            for each in self.contenders
        )
        return replace(self, contenders=tuple(small), seeds=(0,), evaluations=2)


Stop: TypeAlias = Callable[[ls.Progress], bool]


def train(contender: Contender, seed: int, every: int, stop: Stop | None = None) -> Run:
    """Train a classifier, to the end or until `stop`; a run that diverges ends there."""
    points: list[Point] = []
    diverged = diverges(lambda: train_noting(contender, seed, every, lambda at: points.append(point(at)), stop))
    return Run(contender.setting, seed, points, diverged)


def diverges(run: Callable[[], object]) -> bool:
    """Call a function that trains; return whether that ended because the run diverged."""
    try:
        run()
    except LoosestepError as error:
        if divergence(error) is None:
            raise
        return True
    return False


def train_noting(
    contender: Contender, seed: int, every: int, note: Callable[[ls.Progress], object], stop: Stop | None = None
) -> None:
    data = rows_of(contender.data, contender.rows)
    classifier = contender.model.build(data.features, data.classes)
    ls.run(
        contender.strategy,
        classifier.gradient,
        classifier.init(seed),
        batches(contender, data, seed),
        optimizer=contender.optimizer,
        steps=contender.steps,
        on=contender.on,
        seed=seed,
        evaluate=lambda params: classifier.evaluate(params, data.test),
        every=every,
        callback=note,
        stop=stop,
        shapes=classifier.shapes,
        steps_per_epoch=steps_per_epoch(len(data.y_train), contender.batch, contender.on.size),
    )


def batches(contender: Contender, data: Dataset, seed: int) -> Callable[[int, int], Iterator[Any]]:
    """An epoch a step: more than the steps will take."""
    if ls.Need.GLOBAL_BATCHES in contender.strategy.needs:
        if contender.by_label or contender.fraction is not None:
            raise ValueError(
                f"{contender.label!r} shares out batches of all rows: by_label and fraction do not go with it"
            )
        return global_batches(data.train, contender.batch * contender.on.size, contender.steps, seed)
    options = {"by_label": contender.by_label, "fraction": contender.fraction}
    return shards(data.train, contender.batch, contender.steps, seed, **options)


def point(at: ls.Progress) -> Point:
    """What is kept of an evaluation."""
    told = {"step": at.step, "seconds": at.seconds, "samples": at.samples, "bytes": at.bytes_sent, "loss": at.loss}
    told |= {"test_loss" if name == "loss" else name: value for name, value in at.metrics.items()}
    return {name: float(f"{number:.6g}") for name, number in told.items() if isfinite(number)}
