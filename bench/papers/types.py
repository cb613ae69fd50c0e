"""What studies, tables and pictures speak of: contenders, their runs, and what was found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, ClassVar, TypeAlias

import loosestep as ls
from loosestep.data.models import MLP, Model
from loosestep.optimizers import Optimizer
from loosestep.transports.base import Transport

Point = Mapping[str, float]


@dataclass(frozen=True)
class Contender:
    """One run but for its seed: one line of a plot, or with `at` one point of it."""

    label: str = field(metadata={"setting": False})
    strategy: ls.Strategy
    optimizer: Optimizer = field(default_factory=ls.SGD)
    on: Transport = field(default_factory=lambda: ls.Simulated(4))
    steps: int = 2000  # local steps of each worker
    batch: int = 32  # of a worker
    model: Model = field(default_factory=lambda: MLP(64))
    data: str = "fashion-mnist"
    rows: int | None = None  # train with so many rows, the first; None: with all
    fraction: float | None = None  # of the rows that a worker keeps; None: all are dealt anew every epoch
    by_label: bool = False
    panel: str = field(default="", metadata={"setting": False})  # contenders of one panel are drawn together
    at: float | None = field(default=None, metadata={"setting": False})  # its place on an axis of settings
    # Strategies and optimizers of which the best on the study's tuning seed runs in place of its own
    tried: tuple[tuple[ls.Strategy, Optimizer], ...] = field(default=(), metadata={"setting": False})

    @property
    def setting(self) -> str:
        """All that its numbers depend on, as the key of saved runs.

        Every field is there, so that a run made with other defaults does not pass for one with these.
        """
        return ", ".join(f"{name}={in_full(getattr(self, name))}" for name in self.names())

    @property
    def shown(self) -> str:
        """The same for people: without defaults."""
        plain = Contender("", self.strategy)
        told = [name for name in self.names() if name == "strategy" or getattr(self, name) != getattr(plain, name)]
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in told)

    def candidates(self) -> list[Contender]:
        """Return what it tries, each as a contender of its own."""
        return [replace(self, strategy=rule, optimizer=local, tried=()) for rule, local in self.tried]

    def names(self) -> list[str]:
        """Of fields that are settings."""
        return [item.name for item in fields(self) if item.metadata.get("setting", True)]


def in_full(value: object) -> str:
    """A value as it would be written with every field, defaults too."""
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(in_full, value))})"
    if not is_dataclass(value):
        return repr(value)
    told = (f"{item.name}={in_full(getattr(value, item.name))}" for item in fields(value) if item.compare)
    return f"{type(value).__name__}({', '.join(told)})"


@dataclass(frozen=True)
class Made:
    """How a run was carried out: the commit, the processor, the seconds that it took."""

    commit: str
    machine: str
    seconds: float


@dataclass(frozen=True)
class Run:
    """One contender with one seed."""

    setting: str
    seed: int
    points: Sequence[Point]
    diverged: bool = False
    made: Made | None = None


Found: TypeAlias = "Mapping[Contender, Sequence[Run]]"


class Table(ABC):
    """Turns what was found into lines of markdown."""

    @abstractmethod
    def lines(self, found: Found) -> Iterator[str]: ...


class Picture(ABC):
    """Draws a row of axes for each panel."""

    legend: ClassVar[bool] = True

    def height(self, part: Found) -> float:
        """Inches of a row."""
        return 3.6

    @abstractmethod
    def columns(self) -> int:
        """Axes in a row."""

    @abstractmethod
    def draw(self, axes: Sequence[Any], found: Found) -> None:
        """Draw one panel's contenders."""
