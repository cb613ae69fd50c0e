"""The table of `loosestep plan methods`, its notes, and its JSON."""

from __future__ import annotations

from statistics import mean
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from loosestep.foundation import units
from loosestep.planner.methods.candidates import Tariff
from loosestep.planner.methods.grid import label
from loosestep.planner.methods.small_problem import ROUNDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from loosestep.planner.methods import Candidate, MethodPlan, SmallProblem, Trial

    Runs = Mapping[Candidate, Sequence[Trial]]


def table(found: MethodPlan, top: int) -> Table:
    """Return the first choices, a row each."""
    to_loss, paid = found.best.steps is not None, found.best.tariff != Tariff()
    titles = ["step s", "waiting", "sent a step", "messages a step"]
    titles += ["steps", "s to the loss", "sent in all"] if to_loss else []
    made = empty(*titles, *(["money" if to_loss else "money for 1,000 steps"] if paid else []))
    for each in found.ranked[:top]:
        cells = [
            units.seconds(each.step_seconds),
            units.share(each.waiting_share),
            units.size(each.bytes_a_step),
            f"{each.messages_a_step:.3g}",
        ]
        if to_loss:
            cells += [f"{each.steps:,.0f}", units.seconds(each.seconds), units.size(each.bytes)]
        if paid:
            cells.append(f"{each.money if to_loss else 1000 * each.money:.3g}")
        made.add_row(label(each.strategy), *cells)
    return made


def empty(*titles: str) -> Table:
    """Return a table without rows, whose first column is the strategy."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    made.add_column("strategy", overflow="fold")
    for title in titles:
        made.add_column(title, justify="right")
    return made


def notes(found: MethodPlan, *, named: bool) -> list[str]:
    """Return what the table leaves out; named: the strategies were, so that each that is missing is told."""
    told = [f"{units.times(len(found.tried), 'configuration')} of {units.times(len(found.ranked), 'method')}"]
    if found.best.steps is None:
        told[0] += (
            f", each with the shortest period that waits no more than {units.share(found.waiting)} of the time, "
            f"by {found.minimize} a step: how many steps a loss takes is not known (--loss counts them)"
        )
    else:
        told[0] += f", by {found.minimize} of the run to the loss"
        if missing := sum(each.steps is None for each in found.tried):
            told.append(f"left out {missing}: their steps to the loss are not known")
    return told + [f"left out {strategy!r}: {reason}" for strategy, reason in found.refused if named]


def counting(problem: SmallProblem) -> list[str]:
    """Return what the steps to the loss rest on."""
    rates = ", ".join(f"{factor:.2g}" for factor in problem.factors)
    return [
        f"steps are those of a small problem: {problem.data}, {problem.model!r}, batches of {problem.batch}, "
        f"{problem.optimizer!r} at the best of {rates} times its rate, to a training loss of {problem.loss:g}. "
        f"Left out is what did not come there in {problem.longest:,} steps, or in less than {ROUNDS} rounds. "
        "A model of yours may need others: --steps takes them."
    ]


def as_json(found: MethodPlan) -> dict[str, Any]:
    """Return all that was found, with units in the names."""
    return {
        "parameters": found.parameters,
        "on": repr(found.on),
        "minimize": found.minimize,
        "waiting": found.waiting,
        "average_seconds": found.average_seconds,
        "why": found.why,
        "ranked": [row(each) for each in found.ranked],
        "tried": [row(each) for each in found.tried],
        "refused": [{"strategy": label(strategy), "reason": reason} for strategy, reason in found.refused],
    }


def row(each: Candidate) -> dict[str, Any]:
    """Return a candidate with units in the names; what is of the run to a loss where its steps are known."""
    made: dict[str, Any] = {
        "strategy": label(each.strategy),
        "step_seconds": each.step_seconds,
        "waiting_share": each.waiting_share,
        "sent_bytes_per_step": each.bytes_a_step,
        "messages_per_step": each.messages_a_step,
    }
    if each.steps is not None:
        made |= {"steps": each.steps, "seconds": each.seconds, "sent_bytes": each.bytes, "money": each.money}
    return made


# --- runs with numbers -------------------------------------------------------------------------------------


def trials(runs: Runs) -> Table:
    """Return what runs with numbers came to: a row for each candidate, means over seeds."""
    made = empty("run: steps", "run: s to the loss", "predicted step s", "run: step s")
    for each, found in runs.items():
        steps, seconds = means(found)
        cells = ["", "", units.seconds(each.step_seconds), ""]
        if steps is not None and seconds is not None:
            cells = [
                f"{steps:,.0f}",
                units.seconds(seconds),
                units.seconds(each.step_seconds),
                units.seconds(seconds / steps),
            ]
        made.add_row(label(each.strategy), *cells)
    return made


def means(found: Sequence[Trial]) -> tuple[float, float] | tuple[None, None]:
    """Return the mean steps and seconds to the loss, None where one of the runs did not reach it."""
    steps = [trial.steps for trial in found if trial.steps is not None]
    seconds = [trial.seconds for trial in found if trial.seconds is not None]
    if len(seconds) < len(found):
        return None, None
    return mean(steps), mean(seconds)


def finding(runs: Runs, problem: SmallProblem) -> str:
    """Return how far the first choice is from the best of those that were run."""
    seconds = {each: means(found)[1] for each, found in runs.items()}
    reached = {each: value for each, value in seconds.items() if value is not None}
    what = f"on the small problem ({problem.data}, {problem.model!r}, to a loss of {problem.loss:g})"
    if not reached:
        return f"with numbers, {what}, none came to the loss in {units.times(problem.longest, 'step')}"
    best = min(reached, key=lambda each: reached[each])
    first = next(iter(runs))
    if first not in reached:
        fastest = f"{label(best.strategy)} is the fastest"
        return f"with numbers, {what}, {fastest}; the first choice does not come to the loss"
    behind = reached[first] / reached[best] - 1
    return (
        f"with numbers, {what}, {label(best.strategy)} is the fastest; the first choice takes "
        f"{units.share(behind)} longer"
    )


def trials_as_json(runs: Runs) -> list[dict[str, Any]]:
    """Return all runs with numbers."""
    return [
        {
            "strategy": label(each.strategy),
            "runs": [
                {"steps": trial.steps, "seconds": trial.seconds, "rate_factor": trial.factor} for trial in found
            ],
        }
        for each, found in runs.items()
    ]
