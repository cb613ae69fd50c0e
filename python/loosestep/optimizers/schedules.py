"""Learning rates that change with the step: values that print, parse and compose.

A rate is a number or a function of the worker's step (0, 1, ...); those here take a rate and are one, so that
`Warmup(StepDecay(0.1, at=(3000, 6000)), 500)` is gradual warm-up and then two drops. Steps count from the
beginning of the run, also inside another. A rate is for the batch of one worker: `scale_rate` of a run makes it
that of all.

>>> rate = Warmup(StepDecay(0.4, at=(30, 60)), 5, start=0.1)
>>> [round(rate(step), 3) for step in (0, 1, 5, 29, 30, 60)]
[0.1, 0.16, 0.4, 0.4, 0.04, 0.004]
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import cos, pi, sqrt
from typing import Literal, TypeAlias

from loosestep.foundation import checks
from loosestep.foundation.value import Value

__all__ = ["Cosine", "Polynomial", "Rate", "Scaled", "StepDecay", "Warmup"]

Rate: TypeAlias = float | Callable[[int], float]
Scaling = Literal["none", "linear", "sqrt"]
SCALINGS: dict[str, Callable[[int], float]] = {"none": lambda workers: 1.0, "linear": float, "sqrt": sqrt}


def check(name: str, rate: Rate) -> None:
    """Refuse what is neither a function nor a finite number of at least 0."""
    if not callable(rate):
        checks.positive(name, rate, zero=True)


def at(rate: Rate, step: int) -> float:
    """Return the rate at a step."""
    return rate(step) if callable(rate) else rate


def scaled(rate: Rate, by: float) -> Rate:
    """Return the rate times `by`."""
    if by == 1:
        return rate
    if isinstance(rate, Changing):
        return rate.scaled(by)
    return Scaled(rate, by) if callable(rate) else rate * by


def factor(scaling: Scaling, workers: int) -> float:
    """Return by what `scale_rate` multiplies the rate for one worker's batch, where so many share a step."""
    return SCALINGS[scaling](workers)


class Changing(Value):
    """Base of the rates that change. A subclass is a frozen dataclass with defaults for all fields."""

    @abstractmethod
    def __call__(self, step: int) -> float:
        """Return the rate of a step."""

    def scaled(self, by: float) -> Rate:
        """Return the schedule times `by` at every step."""
        return Scaled(self, by)


@dataclass(frozen=True, repr=False)
class Scaled(Changing):
    """rate(step) * by."""

    rate: Rate = 0.1
    by: float = 1.0

    def __post_init__(self) -> None:
        check("rate", self.rate)
        checks.positive("by", self.by)

    def __call__(self, step: int) -> float:
        return at(self.rate, step) * self.by


@dataclass(frozen=True, repr=False)
class Warmup(Changing):
    """Gradual warm-up, linear in every step: start + (rate(steps) - start) step / steps, then rate(step).

    `start` is the rate that is safe for one worker: scaling leaves it as it is.
    P. Goyal et al., arXiv:1706.02677, section 2.2.
    """

    rate: Rate = 0.1
    steps: int = 100
    start: float = 0.0

    def __post_init__(self) -> None:
        check("rate", self.rate)
        checks.integer("steps", self.steps)
        checks.positive("start", self.start, zero=True)

    def __call__(self, step: int) -> float:
        if step >= self.steps:
            return at(self.rate, step)
        return self.start + (at(self.rate, self.steps) - self.start) * step / self.steps

    def scaled(self, by: float) -> Rate:
        return replace(self, rate=scaled(self.rate, by))


@dataclass(frozen=True, repr=False)
class StepDecay(Changing):
    """rate(step) * factor^(how many of `at` are not after the step): P. Goyal et al., 0.1 at epochs 30, 60, 80."""

    rate: Rate = 0.1
    at: tuple[int, ...] = ()
    factor: float = 0.1

    def __post_init__(self) -> None:
        check("rate", self.rate)
        checks.positive("factor", self.factor)
        if not isinstance(self.at, tuple):
            raise TypeError(f"at must be a tuple of steps, got {self.at!r}")
        for step in self.at:
            checks.integer("at", step)

    def __call__(self, step: int) -> float:
        gone = sum(step >= drop for drop in self.at)
        return at(self.rate, step) * float(self.factor**gone)


class Falling(Changing):
    """Base of the rates that fall to `end` over `steps` and stay there."""

    rate: Rate
    steps: int
    end: float

    def __post_init__(self) -> None:
        check("rate", self.rate)
        checks.integer("steps", self.steps)
        checks.positive("end", self.end, zero=True)

    def __call__(self, step: int) -> float:
        left = self.left(min(step / self.steps, 1.0))
        return self.end + (at(self.rate, step) - self.end) * left

    @abstractmethod
    def left(self, gone: float) -> float:
        """Return what is left of the rate (1 to 0) when this part of the steps has gone."""


@dataclass(frozen=True, repr=False)
class Polynomial(Falling):
    """end + (rate(step) - end) (1 - step / steps)^power, then `end`. The decay that goes with LARS has power 2."""

    rate: Rate = 0.1
    steps: int = 1000
    power: float = 2.0
    end: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.positive("power", self.power)

    def left(self, gone: float) -> float:
        return float((1 - gone) ** self.power)


@dataclass(frozen=True, repr=False)
class Cosine(Falling):
    """end + (rate(step) - end) (1 + cos(pi step / steps)) / 2, then `end`."""

    rate: Rate = 0.1
    steps: int = 1000
    end: float = 0.0

    def left(self, gone: float) -> float:
        return (1 + cos(pi * gone)) / 2
