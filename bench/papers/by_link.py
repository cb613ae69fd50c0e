"""Tables and pictures of studies whose contenders are on several links: `at` is Mbit/s, `panel` the latency."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any, ClassVar

import numpy as np

from bench.papers.drawing import style
from bench.papers.tables import ABSENT, Column, head, row, values
from bench.papers.types import Contender, Found, Picture, Run, Table

LOWEST = 0.02  # of an axis, where names begin


def shown(column: Column) -> Callable[[Contender, Sequence[Run]], str]:
    """Return mean and spread in full numbers, of what all seeds have reached."""

    def text(contender: Contender, runs: Sequence[Run]) -> str:
        there = values(column, runs)
        if len(there) < len(runs):
            return f"{ABSENT} ({len(there)} of {len(runs)})" if there else ABSENT
        spread = stdev(there) if len(there) > 1 else 0.0
        return f"{plain(mean(there), 3)} ± {plain(spread, 2)}" if spread else plain(mean(there), 3)

    return text


def plain(number: float, digits: int) -> str:
    return f"{float(f'{number:.{digits}g}'):,.10g}"


@dataclass(frozen=True)
class ByLink(Table):
    """A row a method, a column a link."""

    title: str
    of: Callable[[Contender, Sequence[Run]], str]

    def lines(self, found: Found) -> Iterator[str]:
        links = sorted({(each.at or 0.0, each.panel) for each in found}, key=lambda link: (link[0], len(link[1])))
        yield f"{self.title}:\n"
        yield from head(["method", *(f"{speed:g} Mbit/s, {delay}" for speed, delay in links)])
        rows: dict[str, dict[object, str]] = {}
        for each, runs in found.items():
            rows.setdefault(each.label, {})[each.at or 0.0, each.panel] = self.of(each, runs)
        for name, cells in rows.items():
            yield row([name, *(cells.get(link, ABSENT) for link in links)])


@dataclass(frozen=True)
class AgainstSpeed(Picture):
    """A line a method across bandwidths, named where it ends; an axis for each of several columns."""

    numbers: tuple[Column, ...]
    legend: ClassVar[bool] = False

    def height(self, part: Found) -> float:
        return 4.6

    def columns(self) -> int:
        return len(self.numbers)

    def draw(self, axes: Sequence[Any], found: Found) -> None:
        for place, column in zip(axes, self.numbers, strict=True):
            ends = {}
            for number, name in enumerate(dict.fromkeys(each.label for each in found)):
                mine = {each.at or 0.0: values(column, runs) for each, runs in found.items() if each.label == name}
                line = [
                    (at, mean(one)) for at, one in sorted(mine.items()) if len(one) == len(mine[min(mine)]) > 0
                ]
                if line:
                    look = style(number)
                    place.plot(*zip(*line, strict=True), **look)
                    ends[name] = (*line[-1], look["color"])
            place.set(xscale="log", xlabel="Mbit/s of a worker's link", ylabel=column.title)
            speeds = sorted({each.at or 0.0 for each in found})
            place.set_xticks(speeds, [f"{speed:g}" for speed in speeds])
            logarithmic(place.yaxis, ends)
            names_of(place, ends, edge=True)


def logarithmic(axis: Any, there: object) -> None:
    """Give an axis a logarithmic scale with plain numbers, if anything is on it."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if there:
        getattr(axis.axes, f"set_{axis.axis_name}scale")("log")
        axis.set_major_locator(LogLocator(subs=(1.0,) if axis.axis_name == "x" else (1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axis.set_minor_formatter(NullFormatter())


def names_of(place: Any, dots: dict[str, tuple[float, float, str]], *, edge: bool) -> None:
    """Write a name beside each dot, or at the right edge, so that names do not touch."""
    place.margins(x=0.05 if edge else 0.3, y=0.06)
    place.autoscale_view()
    spots = {
        name: place.transAxes.inverted().transform(place.transData.transform(dot[:2]))
        for name, dot in dots.items()
    }
    order = sorted(spots, key=lambda name: spots[name][1])
    heights = apart([spots[name][1] for name in order], 0.042)
    for name, height in zip(order, heights, strict=True):
        x, y, color = dots[name]
        place.annotate(
            name, (x, y), xytext=(1.06 if edge else spots[name][0] + 0.05, height), textcoords="axes fraction",
            color=color, fontsize=6.5, va="center",
            arrowprops={"arrowstyle": "-", "color": color, "alpha": 0.4, "linewidth": 0.6},
        )  # fmt: skip


def apart(wanted: Sequence[float], least: float) -> list[float]:
    """Return rising numbers at least so far from each other, and as near to rising ones as can be.

    Those that would touch are moved about their mean, and none below LOWEST.
    """
    blocks: list[tuple[float, int]] = []
    for number, at in enumerate(wanted):
        blocks.append((at - number * least, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (one, before), (other, after) = blocks[-2:]
            blocks[-2:] = [((one * before + other * after) / (before + after), before + after)]
    moved = [max(at, LOWEST) for at, count in blocks for _ in range(count)]
    return [at + number * least for number, at in enumerate(moved)]


@dataclass(frozen=True)
class Front(Picture):
    """Bytes against seconds at each bandwidth; who needs more of both than another is grey."""

    across: Column
    up: Column
    speeds: tuple[float, ...]
    legend: ClassVar[bool] = False

    def height(self, part: Found) -> float:
        return 4.6

    def columns(self) -> int:
        return len(self.speeds)

    def draw(self, axes: Sequence[Any], found: Found) -> None:
        for place, speed in zip(axes, self.speeds, strict=True):
            dots = {}
            for each, runs in found.items():
                both = [values(column, runs) for column in (self.across, self.up)]
                if each.at == speed and all(len(one) == len(runs) for one in both):
                    dots[each.label] = (mean(both[0]), mean(both[1]))
            best = front(dots)
            stairs = np.array(sorted(dots[name] for name in best)).reshape(-1, 2)
            place.plot(*stairs.T, color="#0072B2", alpha=0.4, zorder=0)
            shades = {name: "#0072B2" if name in best else "#666666" for name in dots}
            for name, dot in dots.items():
                place.plot(*dot, "o", color=shades[name], markersize=5 if name in best else 3)
            place.set(xlabel=f"{self.across.title}, at {speed:g} Mbit/s", ylabel=self.up.title)
            logarithmic(place.xaxis, dots)
            logarithmic(place.yaxis, dots)
            names_of(place, {name: (*dot, shades[name]) for name, dot in dots.items()}, edge=False)


def front(dots: dict[str, tuple[float, float]]) -> set[str]:
    """Return who is not behind another in both."""
    return {
        name
        for name, (x, y) in dots.items()
        if not any(a <= x and b <= y and (a, b) != (x, y) for a, b in dots.values())
    }
