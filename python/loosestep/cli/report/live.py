"""What is seen while a run goes on: a moving line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column

from loosestep.foundation import units

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

    from loosestep.runtime.result import Progress


def told(at: Progress) -> str:
    """A `Progress` in words."""
    second = "virtual s" if at.virtual else "s"
    parts = [f"{units.seconds(at.seconds)} {second}"]
    if math.isfinite(at.loss):  # at the end there may have been no step since the evaluation before
        parts.append(f"train loss {at.loss:.4f}")
    parts += [f"{name.replace('_', ' ')} {value:.4f}" for name, value in at.metrics.items() if name != "loss"]
    parts += [
        f"{_rate(at):,.0f} samples/{second}",
        f"{units.size(at.bytes_sent)} sent",
        f"{units.share(at.waiting_share)} waiting",
    ]
    return "  ".join(parts)


def short(at: Progress) -> str:
    """A `Progress` in as few words as a terminal has room for, what matters most first."""
    accuracy = f"accuracy {at.metrics['test_accuracy']:.4f}" if "test_accuracy" in at.metrics else ""
    loss = f"loss {at.loss:.4f}" if math.isfinite(at.loss) else ""
    sent = f"{units.share(at.waiting_share)} waiting  {units.size(at.bytes_sent)} sent"
    rate = f"{_rate(at):,.0f}/{'virtual s' if at.virtual else 's'}"
    return "  ".join(filter(None, (accuracy, loss, rate, sent)))


def _rate(at: Progress) -> float:
    return at.samples / at.seconds if at.seconds else 0.0


class Live:
    """Progress of several methods, one after another, of `steps` steps each."""

    def __init__(self, console: Console, steps: int, width: int) -> None:
        self.console, self.steps, self.width = console, steps, width
        self.shown = ("", 0)
        self.bars: Bars | None = None
        if console.is_terminal:
            name = TextColumn("{task.fields[method]}", table_column=Column(no_wrap=True, min_width=min(width, 24)))
            self.bars = Bars(name, BarColumn(12), TextColumn("{task.description}"), console=console)

    def __enter__(self) -> Live:
        if self.bars:
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bars:
            self.bars.stop()

    def begin(self, method: str) -> None:
        """The next method starts."""
        if self.bars:
            self.bars.add_task("", total=self.steps, method=method)

    def show(self, method: str, at: Progress) -> None:
        """It has come this far."""
        step = min(at.step, self.steps)  # workers without data pass the steps that are left of a round
        if self.bars:
            self.bars.update(self.bars.task_ids[-1], completed=step, description=short(at))
        elif self.shown != (method, step):
            line = f"{method:{self.width}}  step {step}/{self.steps}  {told(at)}"
            self.console.print(line, markup=False, soft_wrap=True)
        self.shown = (method, step)
