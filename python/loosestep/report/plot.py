"""The picture of a comparison: test accuracy against seconds and against bytes. Needs matplotlib."""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from loosestep.report.files import replace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from loosestep.report.outcome import Outcome

MARKS = "osD^vP*X<>"  # so that lines can be told apart without colour


def check() -> None:
    """Say, before there is anything to draw, that what draws is missing."""
    if find_spec("matplotlib") is None:
        raise ImportError('the picture of --out needs matplotlib: pip install "loosestep[demo]"')


def draw(outcomes: Sequence[Outcome], title: str, path: Path) -> None:
    """Write a PNG. A method that sends nothing has no place on the axis of bytes, and is named there."""
    from matplotlib.figure import Figure  # no pyplot: nothing global, no display

    figure = Figure(figsize=(12, 5.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    virtual = any(outcome.virtual for outcome in outcomes)
    _curves(left, outcomes, "seconds")
    left.set(xlabel="virtual seconds" if virtual else "seconds", ylabel="test accuracy", xlim=(0, None))
    _curves(right, outcomes, "bytes_sent")
    right.set(xlabel="bytes sent by a worker", xscale="log")
    _name_silent(right, outcomes)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, max(1, len(labels))), frameon=False)
    figure.suptitle(title)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    replace(path, content.getvalue())


def _curves(axes: Any, outcomes: Sequence[Outcome], across: str) -> None:
    for outcome, mark in zip(outcomes, MARKS * len(outcomes), strict=False):
        points = [(getattr(at, across), at.metrics["test_accuracy"]) for at in outcome.history]
        if across == "bytes_sent":
            points = [(sent, accuracy) for sent, accuracy in points if sent > 0]
        name = outcome.strategy + ("" if outcome.finished else " (diverged)")
        axes.plot(*zip(*points, strict=True) if points else ([], []), marker=mark, markersize=5, label=name)
    axes.grid(alpha=0.3)


def _name_silent(axes: Any, outcomes: Sequence[Outcome]) -> None:
    silent = [one.strategy for one in outcomes if one.history and not one.history[-1].bytes_sent]
    if silent:
        place = {"ha": "right", "va": "bottom", "fontsize": "small", "transform": axes.transAxes}
        axes.text(0.98, 0.02, f"{', '.join(silent)}: no bytes sent", **place)
