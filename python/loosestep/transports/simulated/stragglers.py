"""Distributions of the duration of a gradient step in the simulator.

Durations depend on (seed, rank, step) alone, so a resumed run meets the same ones.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from loosestep.foundation import checks
from loosestep.foundation.value import Value

__all__ = ["Constant", "LogNormal", "Measured", "RandomPauses", "SlowPeriod", "SlowWorker", "Stragglers"]

BLOCK = 256  # durations are drawn by the block


class Stragglers(Value):
    """Base of the distributions."""

    @classmethod
    def example(cls) -> Stragglers:
        """Return an instance for contract tests."""
        return cls()

    @abstractmethod
    def durations(self, rank: int, step_time: float, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return `count` durations in seconds; always draw the same number of values from `rng`."""

    def slowdown(self, rank: int, steps: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return factors of the durations of these steps, for conditions that come and go."""
        return np.ones(len(steps))


@dataclass(frozen=True, repr=False)
class Constant(Stragglers):
    """Lets every step of every worker take `step_time`."""

    def durations(self, rank: int, step_time: float, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        return np.full(count, step_time)


@dataclass(frozen=True, repr=False)
class LogNormal(Stragglers):
    """Log-normal durations with mean `step_time`; sigma is the standard deviation of their logarithm."""

    sigma: float = 0.3

    def __post_init__(self) -> None:
        checks.positive("sigma", self.sigma, zero=True)

    def durations(self, rank: int, step_time: float, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        return step_time * rng.lognormal(-(self.sigma**2) / 2, self.sigma, count)


@dataclass(frozen=True, repr=False)
class SlowWorker(Stragglers):
    """Makes one worker `factor` times slower than it would be by `base`, the distribution of all.

    >>> SlowWorker(rank=3, factor=2.0, base=LogNormal(0.3))
    SlowWorker(rank=3, factor=2.0, base=LogNormal())
    """

    rank: int = 0
    factor: float = 3.0
    base: Stragglers = field(default_factory=Constant)

    def __post_init__(self) -> None:
        checks.integer("rank", self.rank, 0)
        checks.positive("factor", self.factor)
        checks.instance("base", self.base, Stragglers)

    def durations(self, rank: int, step_time: float, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        return self.base.durations(rank, step_time, count, rng) * (self.factor if rank == self.rank else 1.0)

    def slowdown(self, rank: int, steps: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.base.slowdown(rank, steps)


@dataclass(frozen=True, repr=False)
class RandomPauses(Stragglers):
    """Makes each step of each worker `seconds` longer with `probability`."""

    probability: float = 0.01
    seconds: float = 0.1

    def __post_init__(self) -> None:
        checks.positive("probability", self.probability, zero=True)
        checks.positive("seconds", self.seconds, zero=True)
        if self.probability > 1:
            raise ValueError(f"probability must be at most 1, got {self.probability!r}")

    def durations(self, rank: int, step_time: float, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        return np.where(rng.random(count) < self.probability, step_time + self.seconds, step_time)


@dataclass(frozen=True, repr=False)
class SlowPeriod(Stragglers):
    """Makes one worker `factor` times slower from step `first` until before step `last`."""

    rank: int = 0
    factor: float = 3.0
    first: int = 100
    last: int = 200

    def __post_init__(self) -> None:
        checks.integer("rank", self.rank, 0)
        checks.positive("factor", self.factor)
        checks.integer("first", self.first, 0)
        checks.integer("last", self.last, self.first + 1)

    def durations(self, rank: int, step_time: float, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        return np.full(count, step_time)

    def slowdown(self, rank: int, steps: NDArray[np.int64]) -> NDArray[np.float64]:
        slow = (rank == self.rank) & (steps >= self.first) & (steps < self.last)
        return np.where(slow, self.factor, 1.0)


@dataclass(frozen=True, repr=False)
class Measured(Stragglers):
    """Durations as they were measured: each worker's own, drawn again.

    values: for each worker, durations that are equally frequent, as multiples of `step_time`. Workers beyond them
        have those of worker (rank mod their number).
    """

    values: tuple[tuple[float, ...], ...] = ((1.0,),)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(tuple(map(float, each)) for each in self.values))
        if not self.values or not all(self.values):
            raise ValueError("values must have at least one duration for each worker")
        for each in self.values:
            for value in each:
                checks.positive("values", value, zero=True)

    def durations(self, rank: int, step_time: float, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        mine = np.array(self.values[rank % len(self.values)])
        return step_time * mine[rng.integers(0, len(mine), count)]


class Speed:
    """One worker's durations by step, drawn when they are first needed."""

    block: ClassVar[int] = BLOCK

    def __init__(self, stragglers: Stragglers, rank: int, seed: int) -> None:
        self.stragglers, self.rank, self.seed = stragglers, rank, seed
        self.drawn, self.values = (-1, 0.0), np.empty(0)

    def duration(self, step: int, step_time: float) -> float:
        """Return the seconds of this worker's step (0, 1, ...), where one without delay takes `step_time`."""
        number, place = divmod(step, self.block)
        if (number, step_time) != self.drawn:
            rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, self.rank, number])))
            self.values = self.stragglers.durations(self.rank, step_time, self.block, rng)
            self.values *= self.stragglers.slowdown(self.rank, np.arange(self.block) + number * self.block)
            self.drawn = number, step_time
        return float(self.values[place])

    def first(self, count: int, step_time: float) -> NDArray[np.float64]:
        """Return the seconds of this worker's first `count` steps."""
        return np.array([self.duration(step, step_time) for step in range(count)])


def durations(stragglers: Stragglers, n: int, steps: int, step_time: float, seed: int) -> NDArray[np.float64]:
    """Return the seconds of the first steps of n workers, a row each."""
    if type(stragglers) is Constant:
        return np.broadcast_to(np.array([[step_time]]), (n, steps))
    return np.array([Speed(stragglers, rank, seed).first(steps, step_time) for rank in range(n)])
