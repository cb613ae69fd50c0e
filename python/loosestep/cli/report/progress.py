"""What is seen while runs go on: a moving line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Column

from loosestep.foundation import units

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

    from loosestep.cli.report.summary import Summary
    from loosestep.runtime.result import Progress


class Display:
    """A context in which progress is shown; `bars` is None where the console is no terminal."""

    bars: Bars | None = None

    def __enter__(self) -> Display:
        if self.bars:
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bars:
            self.bars.stop()


class RunDisplay(Display):
    """Shows every evaluation of several methods, one after another, of `steps` steps each."""

    def __init__(self, console: Console, steps: int, width: int) -> None:
        self.console, self.steps, self.width = console, steps, width
        self.shown = ("", 0)
        if console.is_terminal:
            name = TextColumn("{task.fields[method]}", table_column=Column(no_wrap=True, min_width=min(width, 24)))
            self.bars = Bars(name, BarColumn(12), TextColumn("{task.description}"), console=console)

    def begin(self, method: str) -> None:
        """Begin the line of the next method."""
        if self.bars:
            self.bars.add_task("", total=self.steps, method=method)

    def show(self, method: str, at: Progress) -> None:
        """Show an evaluation."""
        step = min(at.step, self.steps)  # workers without data pass the steps that are left of a round
        if self.bars:
            self.bars.update(self.bars.task_ids[-1], completed=step, description=short(at))
        elif self.shown != (method, step):
            line = f"{method:{self.width}}  step {step}/{self.steps}  {in_words(at)}"
            self.console.print(line, markup=False, soft_wrap=True)
        self.shown = (method, step)


class TableDisplay(Display):
    """Shows the progress over `runs` runs of `steps` steps each, which fill `rows` rows of a table."""

    def __init__(self, console: Console, steps: int, runs: int, rows: int, width: int) -> None:
        self.console, self.steps, self.rows, self.width = console, steps, rows, width
        self.runs_begun = self.rows_done = 0
        if console.is_terminal:
            name = TextColumn(
                "{task.fields[method]}", table_column=Column(no_wrap=True, max_width=48), markup=False
            )
            parts = (TextColumn("{task.description}"), BarColumn(16), TimeElapsedColumn(), name)
            self.bars = Bars(*parts, console=console, transient=True)
            self.task = self.bars.add_task("", total=runs * steps, method="")

    def begin(self, method: str) -> None:
        """Begin the next run."""
        if self.bars:
            run = f"row {self.rows_done + 1} of {self.rows}"
            self.bars.update(self.task, completed=self.runs_begun * self.steps, description=run, method=method)
        self.runs_begun += 1

    def show(self, method: str, at: Progress) -> None:
        """Show how far the run has come."""
        if self.bars:
            done = (self.runs_begun - 1) * self.steps + min(at.step, self.steps)
            self.bars.update(self.task, completed=done)

    def end(self, row: Summary) -> None:
        """Print a line for a row whose seeds are all through, where there is no moving line."""
        self.rows_done += 1
        if self.bars:
            return
        accuracy, seconds = row.number("test_accuracy"), row.number("seconds")
        result = "diverged" if row.problems() else ""
        if accuracy and seconds:
            second = "virtual s" if row.virtual else "s"
            result = f"test accuracy {accuracy.mean:.4f}  {units.seconds(seconds.mean)} {second}"
        line = f"{self.rows_done:{len(str(self.rows))}}/{self.rows}  {row.name:{self.width}}  {result}"
        self.console.print(line.rstrip(), markup=False, soft_wrap=True)


def in_words(at: Progress) -> str:
    """Return a `Progress` as a line of text."""
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
    """Return a `Progress` in as few words as a terminal has room for, what matters most first."""
    accuracy = f"accuracy {at.metrics['test_accuracy']:.4f}" if "test_accuracy" in at.metrics else ""
    loss = f"loss {at.loss:.4f}" if math.isfinite(at.loss) else ""
    sent = f"{units.share(at.waiting_share)} waiting  {units.size(at.bytes_sent)} sent"
    rate = f"{_rate(at):,.0f}/{'virtual s' if at.virtual else 's'}"
    return "  ".join(filter(None, (accuracy, loss, rate, sent)))


def _rate(at: Progress) -> float:
    return at.samples / at.seconds if at.seconds else 0.0
