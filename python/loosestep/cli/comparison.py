"""Runs contenders on one experiment, one after another; shows their progress and writes down their results."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from math import inf
from pathlib import Path
from signal import SIGINT
from textwrap import fill
from typing import TYPE_CHECKING, Any

from rich.measure import Measurement

from loosestep.cli import blas_threads
from loosestep.cli.compared_methods import FACTORS, FAMILIAR, Contender, at_rates, rate_column
from loosestep.cli.report import plot
from loosestep.cli.report.files import Lines, write_tensors
from loosestep.cli.report.progress import RunDisplay, TableDisplay
from loosestep.cli.report.run_record import Outcome, line
from loosestep.cli.report.summary import Summary, copies, target_of
from loosestep.cli.report.table import Comparing, notes, table
from loosestep.foundation.errors import Diverged, LoosestepError, divergence
from loosestep.runtime import banner
from loosestep.runtime.result import Interrupted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from rich.console import Console

    from loosestep.cli.experiment import Experiment
    from loosestep.optimizers import Optimizer
    from loosestep.runtime.result import Progress, Result
    from loosestep.strategies.base import Strategy


class Comparison:
    """A context in which contenders are run, each with every seed; `summaries()` returns their results.

    Without `seeds` it is the training of one contender with the seed of the experiment, and more is shown of it.
    With a folder `out`, every evaluation is a line of metrics.jsonl there as soon as it is made; with `more`
    lines are added to those of an earlier run.
    """

    def __init__(
        self,
        experiment: Experiment,
        contenders: Sequence[Contender],
        console: Console,
        out: str | None = None,
        *,
        seeds: Sequence[int] = (),
        tuning: int | None = None,
        more: bool = False,
    ) -> None:
        self.experiment, self.contenders, self.console = experiment, list(contenders), console
        self.seeds = tuple(seeds) or (experiment.seed,)
        self.tuning = tuning  # the seed on which rates are chosen
        self.folder = None if out is None else Path(out)
        self.lines = Lines(out, more=more)
        width = max(len(str(contender)) for contender in self.contenders)
        self.rows_display = self._table_display(width) if seeds else None
        self.display = self.rows_display or RunDisplay(console, experiment.steps, width)
        self.done: list[tuple[Contender, list[Outcome]]] = []
        self.result: Result | None = None  # of the last run
        self.interrupted = 0  # by that signal
        self.in_progress = ""  # the run, in words
        self._stack = ExitStack()

    def __enter__(self) -> Comparison:
        with ExitStack() as stack:
            threads = stack.enter_context(blas_threads.one_thread())
            self._open(threads)
            stack.enter_context(self.lines)
            stack.enter_context(self.display)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # --- runs --------------------------------------------------------------------------------------------

    def compare(self) -> None:
        """Run every contender with every seed. Ctrl-C ends it; what was finished stays."""
        try:
            for contender in self.contenders:
                chosen = contender if self.tuning is None else self.tune(contender)
                outcomes: list[Outcome] = []
                self.done.append((chosen, outcomes))
                for seed in self.seeds:
                    outcome = self.attempt(chosen, seed)
                    outcomes.append(outcome)
                if self.rows_display:
                    self.rows_display.end(self.summaries()[-1])
        except KeyboardInterrupt as stopped:
            self.interrupted = getattr(stopped, "signal", SIGINT)

    def tune(self, contender: Contender) -> Contender:
        """Return the contender with that of three rates that has the best accuracy on a seed not shown."""
        tried = at_rates(contender.optimizer or self.experiment.optimizer)
        assert self.tuning is not None
        found = [self.attempt(replace(contender, optimizer=each), self.tuning, tuning=True) for each in tried]
        return replace(contender, optimizer=best_of(tried, found), tried=tried)

    def attempt(self, contender: Contender, seed: int, **about: Any) -> Outcome:
        """Run one; that it diverged is an outcome and no error."""
        history: list[Progress] = []
        try:
            result = self.run(contender, seed, history, about)
        except Diverged as error:
            return self._outcome(contender, seed, None, history, str(error))
        return self._outcome(contender, seed, result, history)

    def train(self, **options: Any) -> None:
        """Run the only contender to its end, or to Ctrl-C; every error is the caller's."""
        (contender,), (seed,) = self.contenders, self.seeds
        history: list[Progress] = []
        try:
            self.result = self.run(contender, seed, history, {}, **options)
        except Interrupted as stopped:
            self.result, self.interrupted = stopped.result, stopped.signal
        self.done.append((contender, [self._outcome(contender, seed, self.result, history)]))

    def run(
        self, contender: Contender, seed: int, history: list[Progress], about: dict[str, Any], **options: Any
    ) -> Result:
        """Run once; show, write and collect its evaluations in `history`. Raises Diverged as such."""
        self.in_progress = f"{contender}, seed {seed}"
        experiment = self.experiment.varied(contender.optimizer, seed)
        who = {
            "strategy": repr(contender.strategy),
            "optimizer": repr(experiment.optimizer),
            "seed": seed,
            **about,
        }

        def note(at: Progress) -> None:
            history.append(at)
            self.display.show(str(contender), at)
            self.lines.add(line(who, at))

        self.display.begin(str(contender))
        try:
            result = experiment.run(contender.strategy, note, **options)
        except LoosestepError as error:
            found = divergence(error)
            if found is None:
                raise
            raise found from None
        self.in_progress = ""
        return result

    def _outcome(
        self,
        contender: Contender,
        seed: int,
        result: Result | None,
        history: list[Progress],
        problem: str | None = None,
    ) -> Outcome:
        return Outcome(repr(contender.strategy), self.experiment.on.virtual, result, history, problem, seed)

    def stopped(self) -> str:
        """Describe what was finished before Ctrl-C."""
        if self.rows_display is None:
            return "the step was finished, and what it came to is shown above"
        rows = "the rows above were finished" if self.summaries() else "no row was finished"
        return f"stopped in {self.in_progress}; {rows}" if self.in_progress else rows

    # --- what came out -----------------------------------------------------------------------------------

    def summaries(self) -> list[Summary]:
        """Return a row for each contender that has finished a seed."""
        done = [(contender, outcomes) for contender, outcomes in self.done if outcomes]
        common, virtual = self.experiment.optimizer, self.experiment.on.virtual
        rates = rate_column([contender for contender, _ in done], common) or [""] * len(done)
        return [
            Summary(
                name=str(contender),
                strategy=repr(contender.strategy),
                outcomes=tuple(outcomes),
                familiar=type(contender.strategy) in FAMILIAR,
                optimizer=repr(contender.optimizer or common),
                rate=rate,
                linkless=virtual and bool(contender.strategy.shared_buffers),
            )
            for (contender, outcomes), rate in zip(done, rates, strict=True)
        ]

    def target(self, asked: float | None) -> float | None:
        """Return the accuracy to which seconds are counted: the one asked for, or one that good methods reach."""
        return target_of(self.summaries()) if asked is None and len(self.contenders) > 1 else asked

    def tell(self, asked: float | None = None) -> None:
        """Print the table, and the notes below it."""
        rows = self.summaries()
        if not rows:
            return
        sign = "±" if self.console.encoding.lower().startswith("utf") else "+-"
        test_rows = len(self.experiment.data.y_test)
        how = Comparing(test_rows, self.target(asked), self.console.width, sign)
        shown, left_out = table(rows, how)
        least = Measurement.get(self.console, self.console.options.update(width=10_000), shown).minimum
        self.console.width = max(self.console.width, least)  # better wrapped by the terminal than cut
        self.console.print()
        self.console.print(shown)
        for note in [*notes(rows, how, left_out), *self._about_runs(rows)]:
            told = fill(note, self.console.width, subsequent_indent="  ") if self.console.is_terminal else note
            self.console.print(told, markup=False, soft_wrap=True)

    def _about_runs(self, rows: Sequence[Summary]) -> list[str]:
        """Return notes on how rates were chosen, and on rows with fewer seeds than were asked for."""
        told = []
        if self.tuning is not None:
            told.append(
                f"rate: the best of three (a third, once and three times) on seed {self.tuning}, which is not "
                "shown; + is the highest that was tried, - the lowest: there may be a better one beyond"
            )
        few = [one for one in rows if len(one.outcomes) < len(self.seeds)]
        return told + [f"{one.name}: {len(one.outcomes)} of {len(self.seeds)} seeds were finished" for one in few]

    def draw(self) -> None:
        """Write the plot, where a folder was given."""
        if self.folder is None or not self.summaries():
            return
        title = f"{self.experiment.data.name}, {self.experiment.model!r}, {self.experiment.on!r}"
        plot.draw(self.summaries(), title, self.folder / "accuracy.png")
        self.console.print(f"wrote {self.lines.path} and {self.folder / 'accuracy.png'}", soft_wrap=True)

    def save(self, file: str) -> None:
        """Write the parameters of the last result, as safetensors, by layer."""
        if self.result is None:
            return
        arrays: dict[str, Any] = {}
        for index, (weights, biases) in enumerate(self.experiment.classifier.layers(self.result.params)):
            arrays |= {f"weights.{index}": weights, f"biases.{index}": biases}
        write_tensors(file, arrays, {"strategy": repr(self.contenders[0].strategy), **self.experiment.facts()})
        self.console.print(f"wrote {file}", soft_wrap=True)

    def rows(self, asked: float | None = None) -> list[dict[str, Any]]:
        """Return the table as JSON objects; `as` names the row that a copy equals."""
        rows, target = self.summaries(), self.target(asked)
        same = copies(rows)
        found = [one.row(target) for one in rows]
        for place, row in enumerate(found):
            row |= {"target": target, "as": rows[same[place]].name if place in same else None}
        return found

    # --- before the runs ---------------------------------------------------------------------------------

    def _table_display(self, width: int) -> TableDisplay:
        rows = len(self.contenders)
        runs = rows * (len(self.seeds) + (0 if self.tuning is None else len(FACTORS)))
        return TableDisplay(self.console, self.experiment.steps, runs, rows, width)

    def _open(self, threads: str) -> None:
        facts = self.experiment.facts() | {"BLAS threads": threads}
        if len(self.seeds) > 1:
            facts["seed"] = ", ".join(map(str, self.seeds))
        strategies = list(dict.fromkeys(contender.strategy for contender in self.contenders))
        self._say(facts)
        self._say({repr(strategy): banner.summary(strategy) for strategy in strategies})
        self._say({repr(strategy): self._round(strategy) for strategy in strategies})
        self._say(banner.graphs(strategies, self.experiment.on.size))
        self._say({str(contender): contender.why for contender in self.contenders if contender.why})
        for caution in banner.warnings(strategies, self.experiment.on.size):
            self.console.print(caution, markup=False, soft_wrap=True)

    def _say(self, facts: dict[str, str]) -> None:
        """Print a block of the banner, and an empty line."""
        if facts:
            room = self.console.width if self.console.is_terminal else None
            self.console.print(banner.block(facts, room), markup=False, soft_wrap=True)
            self.console.print()

    def _round(self, strategy: Strategy) -> str:
        nbytes = 4 * self.experiment.classifier.size
        return "a round: " + banner.a_round(strategy, self.experiment.on.size, nbytes)


def best_of(tried: Sequence[Optimizer], outcomes: Sequence[Outcome]) -> Optimizer:
    """Return the optimizer with the best test accuracy, of equals that with the least loss; failures come last."""

    def quality(place: int) -> tuple[float, float]:
        accuracy, loss = outcomes[place].metric("test_accuracy"), outcomes[place].metric("loss")
        return (-1.0 if accuracy is None else accuracy, -inf if loss is None else -loss)

    return tried[max(range(len(tried)), key=quality)]
