"""The plot of a comparison: test accuracy against seconds and against bytes. Needs matplotlib."""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from loosestep.foundation.files import replace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from loosestep.cli.report.summary import Summary

MARKS = "osD^vP*X<>"  # so that lines can be told apart without colour


def check(option: str = "--out") -> None:
    """Raise, before there is anything to draw, if matplotlib is missing."""
    if find_spec("matplotlib") is None:
        raise ImportError(f'the picture of {option} needs matplotlib: pip install "loosestep[demo]"')


def draw(summaries: Sequence[Summary], title: str, path: Path) -> None:
    """Write a PNG with the mean over seeds of each method.

    A method that sends nothing has no place on the axis of bytes, and is named there.
    """
    from matplotlib.figure import Figure  # no pyplot: nothing global, no display

    figure = Figure(figsize=(12, 5.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    virtual = any(one.virtual for one in summaries)
    _curves(left, summaries, "seconds")
    left.set(xlabel="virtual s" if virtual else "seconds", ylabel="test accuracy", xlim=(0, None))
    _curves(right, summaries, "bytes_sent")
    right.set(xlabel="bytes sent by a worker", xscale="log")
    _name_silent(right, summaries)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, max(1, len(labels))), frameon=False)
    figure.suptitle(title)
    save(figure, path)


def save(figure: Any, path: Path) -> None:
    """Write a figure as a PNG."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    replace(path, content.getvalue())


def _curves(axes: Any, summaries: Sequence[Summary], across: str) -> None:
    for one, mark in zip(summaries, MARKS * len(summaries), strict=False):
        points = one.curve(across)
        if across == "bytes_sent":
            points = [(sent, accuracy) for sent, accuracy in points if sent > 0]
        name = one.name + ("" if one.finished else " (diverged)")
        axes.plot(*zip(*points, strict=True) if points else ([], []), marker=mark, markersize=4, label=name)
    axes.grid(alpha=0.3)


def _name_silent(axes: Any, summaries: Sequence[Summary]) -> None:
    curves = {one.name: one.curve("bytes_sent") for one in summaries}
    silent = [name for name, points in curves.items() if points and not points[-1][0]]
    if silent:
        place = {"ha": "right", "va": "bottom", "fontsize": "small", "transform": axes.transAxes}
        axes.text(0.98, 0.02, f"{', '.join(silent)}: no bytes sent", **place)
