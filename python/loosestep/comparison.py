"""Strategies tried on one experiment, one after another: shown while they run, and written down."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.measure import Measurement

from loosestep import blas, opening
from loosestep.errors import Diverged, LoosestepError
from loosestep.report import plot
from loosestep.report.files import Lines, write_tensors
from loosestep.report.live import Live
from loosestep.report.outcome import Outcome, line
from loosestep.report.table import notes, table
from loosestep.result import Interrupted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from rich.console import Console

    from loosestep.experiment import Experiment
    from loosestep.result import Progress, Result
    from loosestep.strategy import Strategy


class Comparison:
    """A context in which strategies are run; `outcomes` says how each did.

    With a folder `out`, every evaluation is a line of metrics.jsonl there as soon as it is made; with `more`
    lines are added to those of an earlier run.
    """

    def __init__(
        self,
        experiment: Experiment,
        strategies: Sequence[Strategy],
        console: Console,
        out: str | None = None,
        *,
        more: bool = False,
    ) -> None:
        self.experiment, self.strategies, self.console = experiment, strategies, console
        self.folder = None if out is None else Path(out)
        self.lines = Lines(out, more=more)
        width = max(len(repr(strategy)) for strategy in strategies)
        self.live = Live(console, experiment.steps, width)
        self.outcomes: list[Outcome] = []
        self.result: Result | None = None  # of the last one
        self.interrupted = 0  # by that signal
        self._stack = ExitStack()

    def __enter__(self) -> Comparison:
        with ExitStack() as stack:
            threads = stack.enter_context(blas.one_thread())
            self._open(threads)
            stack.enter_context(self.lines)
            stack.enter_context(self.live)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def carry_out(self, strategy: Strategy, **options: Any) -> None:
        """Run one to its end, or to Ctrl-C; every error is the caller's."""
        name, virtual = repr(strategy), self.experiment.on.virtual
        history: list[Progress] = []

        def note(at: Progress) -> None:
            history.append(at)
            self.live.show(name, at)
            self.lines.add(line(name, at))

        self.live.begin(name)
        try:
            self.result = self.experiment.run(strategy, note, **options)
        except Interrupted as stopped:
            self.result, self.interrupted = stopped.result, stopped.signal
        except LoosestepError as error:
            found = divergence(error)
            if found is None:
                raise
            self.outcomes.append(Outcome(name, virtual, None, history, str(found)))
            raise found from None
        self.outcomes.append(Outcome(name, virtual, self.result, history))

    def attempt(self, strategy: Strategy) -> None:
        """Run one; that it diverged is an outcome and no error."""
        try:
            self.carry_out(strategy)
        except Diverged as error:
            self.console.print(f"{strategy!r}: {error}", soft_wrap=True)

    def tell(self, target: float | None = None) -> None:
        """The table, and what it cannot hold."""
        self.console.print()
        shown = table(self.outcomes, target, self.console.width)
        least = Measurement.get(self.console, self.console.options.update(width=10_000), shown).minimum
        self.console.width = max(self.console.width, least)  # better wrapped by the terminal than cut
        self.console.print(shown)
        for note in notes(self.outcomes):
            self.console.print(note, soft_wrap=True)

    def draw(self) -> None:
        """The picture, where a folder was given."""
        if self.folder is None:
            return
        title = f"{self.experiment.data.name}, {self.experiment.model!r}, {self.experiment.on!r}"
        plot.draw(self.outcomes, title, self.folder / "accuracy.png")
        self.console.print(f"wrote {self.lines.path} and {self.folder / 'accuracy.png'}", soft_wrap=True)

    def save(self, file: str) -> None:
        """The parameters of the last result, as safetensors, by layer."""
        if self.result is None:
            return
        arrays: dict[str, Any] = {}
        for index, (weights, biases) in enumerate(self.experiment.classifier.layers(self.result.params)):
            arrays |= {f"weights.{index}": weights, f"biases.{index}": biases}
        write_tensors(file, arrays, {"strategy": self.outcomes[-1].strategy, **self.experiment.facts()})
        self.console.print(f"wrote {file}", soft_wrap=True)

    def rows(self, target: float | None = None) -> list[dict[str, Any]]:
        """The outcomes as JSON objects."""
        rows = [outcome.row() for outcome in self.outcomes]
        if target is not None:
            for row, outcome in zip(rows, self.outcomes, strict=True):
                row["seconds_to_target"] = outcome.seconds_to(target)
        return rows

    def _open(self, threads: str) -> None:
        facts = self.experiment.facts() | {"BLAS threads": threads}
        self.console.print(opening.block(facts), markup=False, soft_wrap=True)
        self.console.print()
        for told in (opening.sentence, self._round):
            lines = {repr(strategy): told(strategy) for strategy in self.strategies}
            self.console.print(opening.block(lines), markup=False, soft_wrap=True)
            self.console.print()
        for caution in opening.cautions(self.strategies, self.experiment.on.size):
            self.console.print(caution, markup=False, soft_wrap=True)

    def _round(self, strategy: Strategy) -> str:
        nbytes = 4 * self.experiment.classifier.size
        return "a round: " + opening.a_round(strategy, self.experiment.on.size, nbytes)


def divergence(error: BaseException | None) -> Diverged | None:
    """The divergence that an error is, or that made a worker fail."""
    while error is not None and not isinstance(error, Diverged):
        error = error.__cause__
    return error
