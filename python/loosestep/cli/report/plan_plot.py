"""The plot of `loosestep plan methods`: cost by period, and seconds by bytes. Needs matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loosestep.cli.report.plot import MARKS, save
from loosestep.planner.methods.grid import label, method, period

if TYPE_CHECKING:
    from pathlib import Path

    from loosestep.planner.methods import Candidate, MethodPlan

UNITS = {"seconds": "s", "bytes": "bytes a worker", "money": "money"}


def draw(found: MethodPlan, top: int, path: Path) -> None:
    """Write a PNG of the first choices: each method's cost by period, and all by their seconds and bytes."""
    from matplotlib.figure import Figure  # no pyplot: nothing global, no display

    figure = Figure(figsize=(12, 5.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    what = "a step" if found.best.steps is None else "the run to the loss"
    for chosen, mark in zip(found.ranked[:top], MARKS * top, strict=False):
        points = curve(found, chosen)
        (line,) = left.plot(*zip(*points, strict=True), marker=mark, markersize=4, label=label(chosen.strategy))
        style = {"marker": mark, "color": line.get_color(), "linestyle": "none"}
        left.plot([period(chosen.strategy)], [chosen.cost(found.minimize)], markersize=9, **style)
        right.plot([chosen.bytes], [chosen.seconds], markersize=9, **style)
    left.set(xlabel="period, local steps", xscale="log", yscale="log", ylabel=f"{UNITS[found.minimize]} of {what}")
    right.set(xlabel=f"bytes of {what}, a worker", xscale="log", yscale="log", ylabel=f"s of {what}")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(f"{found.parameters:,} parameters on {found.on.size} workers; the large marks are the choices")
    save(figure, path)


def curve(found: MethodPlan, chosen: Candidate) -> list[tuple[int, float]]:
    """Return (period, cost) of all candidates of a method, the cheapest buckets of each period."""
    best: dict[int, float] = {}
    for each in found.tried:
        if method(each.strategy) == method(chosen.strategy) and (each.steps is None) == (chosen.steps is None):
            place, cost = period(each.strategy), each.cost(found.minimize)
            best[place] = min(cost, best.get(place, cost))
    return sorted(best.items())
