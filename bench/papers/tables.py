"""The tables of a page: mean and spread (standard deviation) over seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from bench.papers.types import Contender, Found, Point, Run, Table

ABSENT = "-"


@dataclass(frozen=True)
class Column:
    """A number of a run: `of(points)`, None where it has none; shown times `scale` in `form`."""

    title: str
    of: Callable[[Sequence[Point]], float | None]
    form: str = ".3g"
    scale: float = 1.0


def last(name: str) -> Callable[[Sequence[Point]], float | None]:
    """Where a curve ends."""
    return lambda points: points[-1].get(name)


def late(name: str, count: int) -> Callable[[Sequence[Point]], float | None]:
    """Return the mean over the last `count` evaluations: less luck than where a noisy curve ends."""
    return lambda points: mean(at[name] for at in points[-count:])


def first_at(name: str, accuracy: float) -> Callable[[Sequence[Point]], float | None]:
    """What it took until an evaluation first showed that test accuracy."""
    return lambda points: next((at[name] for at in points if at["test_accuracy"] >= accuracy), None)


ACCURACY = Column("test accuracy, %", last("test_accuracy"), ".2f", 100)
TEST_LOSS = Column("test loss", last("test_loss"), ".4f")
TRAINING_LOSS = Column("training loss", last("loss"), ".4f")
SECONDS = Column("virtual s", last("seconds"))
SENT = Column("MB sent a worker", last("bytes"), ".3g", 1e-6)
SAMPLES = Column("thousand samples", last("samples"), ".4g", 1e-3)
COLUMNS = (ACCURACY, TEST_LOSS, TRAINING_LOSS, SECONDS, SENT, SAMPLES)


def values(column: Column, runs: Sequence[Run]) -> list[float]:
    """Of the runs that have one; a run that diverged has none."""
    found = [column.of(run.points) for run in runs if not run.diverged]
    return [value * column.scale for value in found if value is not None]


def cell(column: Column, runs: Sequence[Run]) -> str:
    """Mean and spread; how many diverged, or never came there."""
    there, lost = values(column, runs), sum(run.diverged for run in runs)
    if lost:
        return f"{lost} of {len(runs)} diverged"
    if len(there) < len(runs):
        return f"{ABSENT} ({len(runs) - len(there)} of {len(runs)} never)" if there else ABSENT
    spread = stdev(there) if len(there) > 1 else 0.0
    shown = number(mean(there), column.form)
    return f"{shown} ± {number(spread, '.2g')}" if spread > 0 else shown


def number(value: float, form: str) -> str:
    """Return 1629 as that, where `form` alone makes it 1.63e+03."""
    text = f"{value:{form}}"
    return f"{value:.0f}" if "e+" in text and abs(value) < 1e9 else text


def originals(found: Found) -> dict[Contender, Contender]:
    """Return for each contender the first one whose losses and accuracies are the same in every run."""
    first: dict[object, Contender] = {}
    curves = {each: tuple(map(numbers, runs)) for each, runs in found.items()}
    return {each: first.setdefault((each.panel, curve), each) for each, curve in curves.items()}


def numbers(run: Run) -> object:
    """Return what a run has computed: no seconds and no bytes."""
    names = ("step", "loss", "test_accuracy", "test_loss")
    return run.seed, tuple(tuple(at.get(name) for name in names) for at in run.points)


def rate(contender: Contender) -> str:
    """Return the learning rate, to be shown."""
    value = contender.optimizer.rate
    return repr(value) if callable(value) else f"{value:g}"


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def head(titles: Sequence[str]) -> Iterator[str]:
    yield row(titles)
    yield "|" + "---|" * len(titles)


@dataclass(frozen=True)
class Plain(Table):
    """A row a contender, with its panel where there are several.

    rates: has a column for the learning rate. copies: has one for the contender whose numbers are the same.
    """

    columns: tuple[Column, ...] = COLUMNS
    rates: bool = False
    copies: bool = False

    def lines(self, found: Found) -> Iterator[str]:
        panels = len({contender.panel for contender in found}) > 1
        told = {"panel": panels, "method": True, "rate": self.rates}
        titles = [column.title for column in self.columns]
        yield from head([*(name for name, there in told.items() if there), *titles, *self.copies * ["numbers of"]])
        first = originals(found) if self.copies else {}
        for contender, runs in found.items():
            names = panels * [contender.panel] + [contender.label] + self.rates * [rate(contender)]
            other = first.get(contender, contender)
            copied = self.copies * [" " if other is contender else other.label]
            yield row([*names, *(cell(column, runs) for column in self.columns), *copied])


@dataclass(frozen=True)
class Across(Table):
    """A row a label, a column for each place `at` on an axis of settings, say Across("period", ACCURACY)."""

    setting: str
    column: Column = ACCURACY

    def lines(self, found: Found) -> Iterator[str]:
        places = sorted({contender.at for contender in found if contender.at is not None})
        yield f"{self.column.title}:\n"
        yield from head(["panel", "method", *(f"{self.setting} {place:g}" for place in places)])
        rows: dict[tuple[str, str], dict[float | None, str]] = {}
        for contender, runs in found.items():
            rows.setdefault((contender.panel, contender.label), {})[contender.at] = cell(self.column, runs)
        for names, cells in rows.items():
            yield row([*names, *(cells.get(place, ABSENT) for place in places)])
