"""A small problem on which methods are run with numbers: the steps and the seconds that they need to a loss."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import pairwise
from math import ceil, inf, log
from typing import TYPE_CHECKING, Any

import numpy as np

from loosestep.data import Dataset, load, shards, steps_per_epoch
from loosestep.data.models import MLP, Model
from loosestep.foundation import checks
from loosestep.foundation.errors import LoosestepError, divergence
from loosestep.foundation.value import Value
from loosestep.optimizers.base import Optimizer
from loosestep.optimizers.sgd import SGD
from loosestep.planner.methods.grid import SIZES, cycle, period
from loosestep.runtime.run import run
from loosestep.transports.simulated.transport import MEMORY_BANDWIDTH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from loosestep.runtime.result import Progress
    from loosestep.strategies.base import Strategy
    from loosestep.transports.simulated.transport import Simulated

MOST = 64
"""Workers of a run with numbers, at most: with more, each has less than a batch of its own."""

ROUNDS = 5
"""Rounds of a run, at least, that says anything of a longer one with the same period."""


@dataclass(frozen=True)
class Trial:
    """A run with numbers to a loss.

    steps, seconds: local steps and virtual seconds until the loss is reached, None where it is not.
    factor: of the optimizer's learning rate. loss: the last one.
    """

    strategy: Strategy
    factor: float
    loss: float
    steps: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, repr=False)
class SmallProblem(Value):
    """A classifier of small data, which stands for the model of a plan where numbers are needed.

    Links are scaled with the model, so that a message takes as long as that of the model it stands for, and so are
    buckets: a run with numbers takes the virtual seconds that the real model's would take for as many steps.

    loss: to be reached, the mean over the training rows.
    data: a name of `loosestep.data.names()`, or a data set.
    batch: rows of a worker's batch.
    longest: local steps of a worker after which a run is given up.
    optimizer: of all methods, with the best of its learning rate times each of `factors`.
    every: steps from one evaluation to the next, about; a method with rounds is evaluated at their ends.
    """

    loss: float = 0.05
    data: str | Dataset = "digits"
    model: Model = field(default_factory=lambda: MLP(32))
    batch: int = 4
    longest: int = 2000
    optimizer: Optimizer = field(default_factory=lambda: SGD(0.1))
    factors: tuple[float, ...] = (3.0, 1.0, 1 / 3)
    every: int = 20

    def __post_init__(self) -> None:
        checks.positive("loss", self.loss)
        for name in ("batch", "longest", "every"):
            checks.integer(name, getattr(self, name))
        checks.instance("model", self.model, Model)
        checks.instance("optimizer", self.optimizer, Optimizer)
        if not self.factors:
            raise ValueError("factors must hold at least one")

    @cached_property
    def rows(self) -> Dataset:
        """The data set."""
        return load(self.data) if isinstance(self.data, str) else self.data

    def steps(
        self,
        strategies: Iterable[Strategy],
        on: Simulated,
        parameters: int,
        *,
        seed: int = 0,
        known: dict[Any, Trial] | None = None,
        note: Callable[[Trial], object] | None = None,
    ) -> dict[Strategy, float]:
        """Return the local steps that strategies need to the loss: of those that reach it, in ROUNDS or more.

        One run for each strategy and learning rate, of those that differ in sizes of buckets one. What a
        synchronous one computes does not depend on links, so its run serves clusters of as many workers.

        parameters: of the model that this problem stands for. known: runs that need not be made again; those that
        are made are added. note: gets each that is made.
        """
        found: dict[Strategy, float] = {}
        known = {} if known is None else known
        for strategy in strategies:
            course = course_of(strategy)
            key = course, on.size if course.synchronous else on, seed
            if key not in known:
                known[key] = self.best_trial(course, on, parameters, seed)
                if note is not None:
                    note(known[key])
            steps = known[key].steps
            if steps is not None and steps >= ROUNDS * period(strategy):
                found[strategy] = steps
        return found

    def best_trial(self, strategy: Strategy, on: Simulated, parameters: int, seed: int = 0) -> Trial:
        """Return the run with the learning rate that needs the fewest steps, else that with the least loss."""
        best: Trial | None = None
        for factor in self.factors:
            most = inf if best is None or best.steps is None else best.steps
            made = self.trial(strategy, on, parameters, factor=factor, seed=seed, most=most)
            if best is None or quality(made) < quality(best):
                best = made
        assert best is not None
        return best

    def trials(
        self, strategy: Strategy, on: Simulated, parameters: int, seeds: Sequence[int] = (1, 2)
    ) -> list[Trial]:
        """Return runs on several seeds, with the learning rate that is best on seed 0."""
        factor = self.best_trial(strategy, on, parameters).factor
        return [self.trial(strategy, on, parameters, factor=factor, seed=seed) for seed in seeds]

    def trial(
        self,
        strategy: Strategy,
        on: Simulated,
        parameters: int,
        *,
        factor: float = 1.0,
        seed: int = 0,
        most: float = inf,
    ) -> Trial:
        """Run a strategy with numbers on a cluster as on a model of so many parameters, until the loss is reached.

        factor: of the optimizer's learning rate. most: steps after which the run is given up.
        """
        n, rows = on.size, self.rows
        checks.at_most("the workers of a run with numbers", n, MOST)
        classifier = self.model.build(rows.features, rows.classes)
        density = parameters / classifier.size
        epoch, of_round = steps_per_epoch(len(rows.y_train), self.batch, n), cycle(strategy)
        every = of_round * max(1, round(self.every / of_round))  # between, there is no model
        history: list[Progress] = []

        def stop(at: Progress) -> bool:
            history.append(at)
            return at.metrics["loss"] <= self.loss or at.step >= most

        try:
            run(
                smaller(strategy, density),
                classifier.gradient,
                classifier.init(seed),
                shards(rows.train, self.batch, ceil(self.longest / epoch), seed),
                steps=self.longest,
                optimizer=self.optimizer.scaled(factor),
                on=stand_in(on, density),
                seed=seed,
                evaluate=lambda params: classifier.evaluate(params, rows.train),
                every=every,
                stop=stop,
                steps_per_epoch=epoch,
                shapes=classifier.shapes,
            )
        except LoosestepError as error:
            if divergence(error) is None:
                raise
            return Trial(strategy, factor, inf)
        steps, seconds = crossing(history, self.loss, of_round)
        return Trial(strategy, factor, history[-1].metrics["loss"], steps, seconds)


def crossing(history: Sequence[Progress], loss: float, of_round: int) -> tuple[float | None, float | None]:
    """Return the step at which a loss was reached, at the end of a round, and its seconds; None where it was not.

    Between two evaluations the logarithm of the loss is taken as linear.
    """
    for before, at in pairwise([None, *history]):
        assert at is not None
        if at.metrics["loss"] > loss:
            continue
        if before is None:
            return at.step, at.seconds
        high, low = before.metrics["loss"], at.metrics["loss"]
        whole = at.step - before.step
        steps = of_round * ceil(whole / of_round * log(high / loss) / log(high / low) - 1e-9)
        return before.step + steps, before.seconds + (at.seconds - before.seconds) * steps / whole
    return None, None


def quality(trial: Trial) -> tuple[float, float]:
    """Return what is least for the best of several trials of one strategy."""
    return inf if trial.steps is None else trial.steps, trial.loss


def course_of(strategy: Strategy) -> Strategy:
    """Return the strategy with the default sizes of buckets, which change no number."""
    sizes = {each.name: each.default for each in fields(strategy) if each.name in SIZES}  # type: ignore[arg-type]
    return replace(strategy, **sizes)  # type: ignore[type-var]


def smaller(strategy: Strategy, density: float) -> Strategy:
    """Return the strategy with buckets for a model of so many times fewer parameters."""
    names = [each.name for each in fields(strategy) if each.name in SIZES]  # type: ignore[arg-type]
    sizes = {name: max(4, round(getattr(strategy, name) / density)) for name in names}
    return replace(strategy, **sizes)  # type: ignore[type-var]


def stand_in(on: Simulated, density: float) -> Simulated:
    """Return the cluster on which messages of a model of so many times fewer parameters take as long."""

    def slower(bandwidth: Any) -> Any:
        return None if bandwidth is None else (np.asarray(bandwidth) / density).tolist()

    inside = on.host_bandwidth
    if on.hosts is not None and inside is None and not np.ndim(on.bandwidth):
        inside = MEMORY_BANDWIDTH
    return replace(
        on,
        bandwidth=slower(on.bandwidth),
        center_bandwidth=slower(on.center_bandwidth),
        host_bandwidth=slower(inside),
        prices=replace(
            on.prices,
            header=on.prices.header / density,
            copy=on.prices.copy * density,
            update=on.prices.update * density,
            inbound=slower(on.prices.inbound),
            lag=tuple(tuple((size / density, late) for size, late in table) for table in on.prices.lag),
        ),
    )
