"""The pictures of a page. Colours are Okabe and Ito's, which all eyes can tell apart; so do dashes and marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, ClassVar

import numpy as np

from bench.papers.tables import ACCURACY, Column, originals, values
from bench.papers.types import Contender, Found, Picture, Run

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
DASHES = ("-", "--", ":", "-.")
MARKS = "osD^vP*X<>"
NAMES = {
    "step": "local steps of a worker",
    "bytes": "bytes sent by a worker",
    "seconds": "virtual s",
    "samples": "samples of all workers",
    "loss": "training loss",
    "test_accuracy": "test accuracy",
    "robust_accuracy": "robust accuracy",
    "test_loss": "test loss",
    "calibration": "calibration error",
    "round": "rounds",
    "layer": "hidden layers",
    "exponent": "log10 |center|",
}
LOGARITHMIC = ("bytes",)
WHOLE = ("layer",)  # no ticks between whole numbers
WIDE = 1e3  # from one end of a logarithmic axis to the other: ticks at 2 and 5 would touch
LEGEND = {"frameon": False, "fontsize": "small", "loc": "upper left", "bbox_to_anchor": (1.01, 1.0)}


def style(number: int) -> dict[str, Any]:
    """How the line of that number looks: no two are alike in colour and dash."""
    dash = DASHES[number // len(COLORS) % len(DASHES)]
    mark = MARKS[number % len(MARKS)]
    return {"color": COLORS[number % len(COLORS)], "linestyle": dash, "marker": mark, "markersize": 4}


@dataclass(frozen=True)
class Curves(Picture):
    """A line a contender: the mean over seeds, a band from the least to the greatest.

    axes: (across, up) names of what points hold; low: where each `up` axis begins and ends, None for all.
    """

    axes: tuple[tuple[str, str], ...] = (
        ("samples", "test_accuracy"),
        ("seconds", "test_accuracy"),
        ("bytes", "test_accuracy"),
    )
    limits: tuple[float | None, float | None] = (None, None)

    def columns(self) -> int:
        return len(self.axes)

    def draw(self, axes: Sequence[Any], found: Found) -> None:
        for place, (across, up) in zip(axes, self.axes, strict=True):
            for number, (contender, runs) in enumerate(found.items()):
                line(place, contender.label, runs, across, up, style(number))
            place.set(xlabel=NAMES.get(across, across), ylabel=NAMES.get(up, up), ylim=self.limits)
            scale(place, across)


def scale(place: Any, across: str) -> None:
    """Few ticks, that do not touch: 200k."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    if across in LOGARITHMIC:
        place.set_xscale("log")
    else:
        place.xaxis.set_major_locator(MaxNLocator(5, integer=across in WHOLE))
        place.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def short(value: float) -> str:
    """Return 200000 as 200k, and 0.8 as it is."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def line(place: Any, label: str, runs: Sequence[Run], across: str, up: str, look: dict[str, Any]) -> None:
    """The mean of the runs' curves, as far as all go."""
    shared = min(len(run.points) for run in runs)
    curves = [[[at.get(name, np.nan) for name in (across, up)] for at in run.points[:shared]] for run in runs]
    table = np.array(curves).reshape(len(runs), shared, 2)
    if across in LOGARITHMIC:
        table = table[:, (table[:, :, 0] > 0).all(axis=0)]
    x, y = table.mean(axis=0).T
    place.plot(x, y, label=label, linewidth=1.5, markevery=max(1, len(x) // 6), **look)
    place.fill_between(x, table[:, :, 1].min(axis=0), table[:, :, 1].max(axis=0), color=look["color"], alpha=0.15)


@dataclass(frozen=True)
class Ends(Picture):
    """A line a label across settings: a column of the table against each contender's `at`."""

    setting: str
    column: Column = ACCURACY
    logarithmic: bool = True
    logarithmic_up: bool = False
    ideal: bool = False  # also draw an n-th of the first label's first value
    dodge: float = 0.0  # how far, as a part of its place, a line is moved from the one before, to part bars
    limits: tuple[float | None, float | None] = (None, None)  # where the `up` axis begins and ends

    def columns(self) -> int:
        return 1

    def draw(self, axes: Sequence[Any], found: Found) -> None:
        (place,) = axes
        for number, label in enumerate(dict.fromkeys(contender.label for contender in found)):
            self.line(place, label, {each.at: runs for each, runs in found.items() if each.label == label}, number)
        if self.ideal:
            draw_ideal(place)
        place.set(xlabel=self.setting, ylabel=self.column.title)
        if self.logarithmic:
            plain_powers(place, "x", sorted({each.at for each in found if each.at is not None}))
        if self.logarithmic_up and any(len(each.get_ydata()) for each in place.lines):
            few_powers(place, "y")
        if self.limits != (None, None):
            place.set_ylim(self.limits)

    def line(self, place: Any, label: str, at: dict[float | None, Sequence[Run]], number: int) -> None:
        ends = {where: values(self.column, runs) for where, runs in at.items() if where is not None}
        kept = {where: found for where, found in sorted(ends.items()) if found}
        middle = [mean(found) for found in kept.values()]
        reach = [[m - min(f) for m, f in zip(middle, kept.values(), strict=True)]]
        reach += [[max(f) - m for m, f in zip(middle, kept.values(), strict=True)]]
        where = [at * (1 + self.dodge) ** number for at in kept]
        place.errorbar(where, middle, yerr=reach, label=label, capsize=3, linewidth=1.5, **style(number))


def draw_ideal(place: Any) -> None:
    """Draw what the first line would be if n workers needed an n-th."""
    x, y = place.lines[0].get_data()
    if len(x):
        place.plot(
            x, y[0] * x[0] / np.asarray(x), color="#777777", linewidth=1, zorder=0, label="an n-th of the first"
        )


@dataclass(frozen=True)
class Dots(Picture):
    """A line a method, best first; in each column its mean as a dot, a bar from the least to the greatest.

    For many methods, where curves would hide each other. What a run never reached has no dot; in the first column
    what is below `least` is an arrow there; an arrow at the left end of a logarithmic axis is nothing at all. A
    method whose numbers are another's says so.
    """

    numbers: tuple[Column, ...]
    logarithmic: tuple[str, ...] = ()  # titles of columns
    least: float = -np.inf
    legend: ClassVar[bool] = False

    def height(self, part: Found) -> float:
        return 0.24 * len(part) + 1.0

    def columns(self) -> int:
        return len(self.numbers)

    def draw(self, axes: Sequence[Any], found: Found) -> None:
        order = sorted(found.items(), key=lambda item: mean(values(self.numbers[0], item[1]) or [0.0]))
        first = originals(found)
        labels = [
            each.label if first[each] is each else f"{each.label} = {first[each].label}" for each, _ in order
        ]
        for number, (place, column) in enumerate(zip(axes, self.numbers, strict=True)):
            least = -np.inf if number else self.least
            there = [values(column, runs) for _, runs in order]
            if column.title in self.logarithmic:
                few_powers(place)
                least = leftmost(there)
            for height, each in enumerate(there):
                dot(place, each, height, COLORS[number], least)
            if column.title in self.logarithmic and np.divide(*place.get_xlim()[::-1]) > WIDE:
                few_powers(place, at=(1.0,))
            place.set(xlabel=column.title, ylim=(-0.7, len(order) - 0.3), yticks=range(len(order)))
            place.set_yticklabels(labels if number == 0 else [], fontsize="small")


def dot(place: Any, there: list[float], height: int, color: str, least: float) -> None:
    """Mean and reach, or an arrow to what is far away."""
    if there and mean(there) < least:
        place.plot([least], [height], "<", color=color, markersize=6)
    elif there:
        place.plot([max(least, min(there)), max(there)], [height, height], color=color, linewidth=2.5, alpha=0.4)
        place.plot([mean(there)], [height], "o", color=color, markersize=5)


def leftmost(there: Sequence[Sequence[float]]) -> float:
    """Return where a logarithmic axis begins, left of all means: what is nothing has no place on it."""
    return min((mean(each) for each in there if each and mean(each) > 0), default=1.0) / 1.5


def few_powers(place: Any, which: str = "x", at: Sequence[float] = (1.0, 2.0, 5.0)) -> None:
    """A logarithmic axis with ticks at 1, 2 and 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    place.set(**{f"{which}scale": "log"})
    axis = getattr(place, f"{which}axis")
    axis.set_major_locator(LogLocator(subs=at))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def plain_powers(place: Any, which: str, there: Sequence[float]) -> None:
    """A logarithmic axis with a tick, in plain numbers, at each place that was measured."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    place.set(**{f"{which}scale": "log"})
    axis = getattr(place, f"{which}axis")
    axis.set_major_locator(FixedLocator(there))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def draw(pictures: Sequence[Picture], found: Found, file: Path) -> None:
    """Write a PNG: every picture for every panel, a row each, the legend beside it."""
    from matplotlib.figure import Figure  # no pyplot: nothing global, no display

    panels: dict[str, dict[Contender, Sequence[Run]]] = {}
    for contender, runs in found.items():
        panels.setdefault(contender.panel, {})[contender] = runs
    rows = [(picture, panel, part) for picture in pictures for panel, part in panels.items()]
    width, heights = max(each.columns() for each in pictures), [each.height(part) for each, _, part in rows]
    figure = Figure(figsize=(4.2 * width + 2.6, sum(heights)), layout="constrained")
    grid = figure.subplots(len(rows), width, squeeze=False, height_ratios=heights)
    for axes, row in zip(grid, rows, strict=True):
        fill(axes, *row)
    figure.savefig(file, dpi=110)


def fill(axes: Sequence[Any], picture: Picture, panel: str, part: Found) -> None:
    """One row."""
    used, unused = axes[: picture.columns()], axes[picture.columns() :]
    picture.draw(used, part)
    for place in used:
        place.grid(alpha=0.25)
        place.spines[["top", "right"]].set_visible(False)
        place.set_title(panel, fontsize="medium")
    for place in unused:
        place.set_axis_off()
    if picture.legend:
        used[-1].legend(**LEGEND)
