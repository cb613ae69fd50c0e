"""The sentence that says why a plan's first choice is first, with the numbers that decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loosestep.foundation import units
from loosestep.planner.methods.grid import label, period
from loosestep.strategies.allreduce_sgd import AllReduceSGD

if TYPE_CHECKING:
    from loosestep.planner.methods.candidates import Candidate, Objective


def reason(
    ranked: tuple[Candidate, ...],
    *,
    parameters: int,
    average: float,
    step_time: float,
    objective: Objective,
) -> str:
    """Return why the first of `ranked` is chosen, against minibatch SGD where that is among them.

    average: seconds of an average of all parameters; step_time: of a local step.
    """
    best = ranked[0]
    rival = next((each for each in ranked[1:] if isinstance(each.strategy, AllReduceSGD)), None)
    links = (
        f"An average of {units.times(parameters, 'parameter')} takes {units.seconds(average)} s between "
        f"{units.times(best.workers, 'worker')}, a local step {units.seconds(step_time)} s: "
    )
    against = ""
    if rival is not None:
        against = f"{label(rival.strategy)} waits {units.share(rival.waiting_share)} of its time, "
    return f"{links}{against}{label(best.strategy)}{meeting(best, step_time)}{to_loss(best, rival, objective)}."


def meeting(best: Candidate, step_time: float) -> str:
    """Return how seldom a strategy communicates, and how much it waits."""
    steps = period(best.strategy)
    computing = ""
    if steps > 1:
        computing = f" computes {units.seconds(steps * step_time)} s between two communications and"
    codec = getattr(best.strategy, "codec", None)
    coded = "" if codec is None else f", with {codec.bits(1 << 16) / (1 << 16):.3g} bits a value"
    return f"{computing} waits {units.share(best.waiting_share)}{coded}"


def to_loss(best: Candidate, rival: Candidate | None, objective: Objective) -> str:
    """Return what the run to the loss costs, where its steps are known."""
    if best.steps is None:
        return ""
    told = f"; it comes to the loss in {best.steps:,.0f} steps and {shown(best, objective)}"
    if rival is None or rival.steps is None:
        return told
    return f"{told}, {type(rival.strategy).__name__} in {rival.steps:,.0f} steps and {shown(rival, objective)}"


def shown(each: Candidate, objective: Objective) -> str:
    """Return what a candidate costs, for people."""
    cost = each.cost(objective)
    if objective == "seconds":
        return f"{units.seconds(cost)} s"
    return f"{units.size(cost)} a worker" if objective == "bytes" else f"{cost:.3g} of money"
