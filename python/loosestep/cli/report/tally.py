"""What is seen while many runs go on: one moving line on a terminal, a line for each finished row elsewhere."""

from __future__ import annotations

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


class Tally:
    """Progress over `runs` runs of `steps` steps each, of `rows` rows of the table."""

    def __init__(self, console: Console, steps: int, runs: int, rows: int, width: int) -> None:
        self.console, self.steps, self.rows, self.width = console, steps, rows, width
        self.begun = self.told = 0
        self.bars: Bars | None = None
        if console.is_terminal:
            name = TextColumn(
                "{task.fields[method]}", table_column=Column(no_wrap=True, max_width=48), markup=False
            )
            parts = (TextColumn("{task.description}"), BarColumn(16), TimeElapsedColumn(), name)
            self.bars = Bars(*parts, console=console, transient=True)
            self.task = self.bars.add_task("", total=runs * steps, method="")

    def __enter__(self) -> Tally:
        if self.bars:
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bars:
            self.bars.stop()

    def begin(self, method: str) -> None:
        """The next run starts."""
        if self.bars:
            run = f"row {self.told + 1} of {self.rows}"
            self.bars.update(self.task, completed=self.begun * self.steps, description=run, method=method)
        self.begun += 1

    def show(self, method: str, at: Progress) -> None:
        """It has come this far."""
        if self.bars:
            done = (self.begun - 1) * self.steps + min(at.step, self.steps)
            self.bars.update(self.task, completed=done)

    def end(self, row: Summary) -> None:
        """All seeds of a row are through."""
        self.told += 1
        if self.bars:
            return
        accuracy, seconds = row.number("test_accuracy"), row.number("seconds")
        told = "diverged" if row.problems() else ""
        if accuracy and seconds:
            second = "virtual s" if row.virtual else "s"
            told = f"test accuracy {accuracy.mean:.4f}  {units.seconds(seconds.mean)} {second}"
        line = f"{self.told:{len(str(self.rows))}}/{self.rows}  {row.name:{self.width}}  {told}"
        self.console.print(line.rstrip(), markup=False, soft_wrap=True)
