"""`plan`: which methods, with which periods, codecs and buckets, suit a model, its workers and their links."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from loosestep.foundation import checks
from loosestep.planner.methods import why
from loosestep.planner.methods.candidates import OBJECTIVES, Candidate, Objective, Tariff, priced
from loosestep.planner.methods.grid import BUCKETS, PERIODS, Grid, all_codecs, all_strategies, method, period
from loosestep.planner.methods.steps import Steps
from loosestep.transports.simulated.transport import Simulated

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import DTypeLike

    from loosestep.codecs.base import Codec
    from loosestep.strategies.base import Strategy

AS_FAST = 1.001
"""Times as long: no reason to prefer smaller buckets."""


@dataclass(frozen=True)
class MethodPlan:
    """Strategies on one cluster, the best first. As text it is the sentence that says why.

    ranked: the choices, see `plan`. tried: all candidates. refused: strategies that cannot be ranked, with the
    reason. average_seconds: what an average of all parameters takes.
    """

    parameters: int
    on: Simulated
    minimize: Objective
    waiting: float
    ranked: tuple[Candidate, ...]
    tried: tuple[Candidate, ...]
    refused: tuple[tuple[Strategy, str], ...]
    average_seconds: float

    @property
    def best(self) -> Candidate:
        """The first choice."""
        return self.ranked[0]

    @property
    def why(self) -> str:
        """Why it is first, in a sentence."""
        return why.reason(
            self.ranked,
            parameters=self.parameters,
            average=self.average_seconds,
            step_time=self.on.step_time,
            objective=self.minimize,
        )

    def __str__(self) -> str:
        return self.why

    def to_loss(self, steps: Mapping[Strategy, float]) -> MethodPlan:
        """Return the same, ranked by what the whole run costs that reaches a loss in so many local steps.

        Raises ValueError where the steps of no candidate are known.
        """
        known = Steps(steps)
        counts = [known.of(each.strategy) for each in self.tried]
        tried = tuple(
            each if count is None else each.to_loss(count) for each, count in zip(self.tried, counts, strict=True)
        )
        methods = by_method(each for each in tried if each.steps is not None)
        ranked = ordered((ordered(by_period(same).values(), self.minimize)[0] for same in methods), self.minimize)
        if not ranked:
            raise ValueError("steps must hold those of at least one of the strategies that were predicted")
        return replace(self, ranked=ranked, tried=tried)


def plan(
    model: int | Any,
    on: Simulated,
    *,
    minimize: Objective = "seconds",
    steps: Mapping[Strategy, float] | None = None,
    strategies: Sequence[Strategy] | None = None,
    periods: Sequence[int] = PERIODS,
    codecs: Sequence[Codec] | None = None,
    buckets: Sequence[int] = BUCKETS,
    tariff: Tariff | None = None,
    waiting: float = 0.1,
    dtype: DTypeLike = np.float32,
) -> MethodPlan:
    """Return which strategies, with which periods, codecs and bucket sizes, train a model on a cluster for least.

    Each is priced in the course of a long run by `predict`, without numbers. What a run costs is that times the
    local steps that it needs, which no price says:

    - with `steps` those are known: strategies, each with its best period, are ranked by the cost of the whole run.
    - without, a shorter period is nearer to minibatch SGD: of each strategy and codec the one with the shortest
      period is ranked that waits no longer than `waiting`, a share of the workers' time (where all wait longer,
      the one that waits least), by the cost of a step.

    model: how many parameters of `dtype`, or a module with `parameters()`, as torch's: those that are trained.
    minimize: 'seconds', 'bytes' (those that a worker sends, and a center to it) or 'money'.
    steps: local steps of each worker to a loss; `SmallProblem.steps` counts them. Those of a period between two
        given ones are interpolated; what is not known is not ranked.
    strategies: to try, by default one of each. Where one has a codec or a bucket size that is not its default, no
        others are tried. codecs: by default one of each, and none. tariff: prices for 'money'.

    >>> import loosestep as ls
    >>> cluster = ls.Simulated(4, step_time=0.1, latency=0.01, bandwidth=1.25e7)
    >>> found = plan(250_000, cluster, strategies=[ls.AllReduceSGD(), ls.LocalSGD()])
    >>> [each.strategy for each in found.ranked]
    [LocalSGD(period=16), AllReduceSGD()]
    >>> found = plan(250_000, cluster, steps={ls.LocalSGD(1): 1000, ls.LocalSGD(256): 2000})
    >>> found.best.strategy
    LocalSGD()

    Raises ValueError for a share that is not between 0 and 1, for no strategy, where none can be ranked, and for
    money without a price.
    """
    checks.fraction("waiting", waiting)
    checks.one_of("minimize", minimize, OBJECTIVES)
    tariff = tariff or Tariff()
    if minimize == "money" and tariff == Tariff():
        raise ValueError("minimize='money' needs a tariff whose worker_hour or gigabyte is above 0")
    parameters = parameters_of(model)
    grid = Grid(tuple(periods), tuple(all_codecs() if codecs is None else codecs), tuple(buckets))
    chosen = all_strategies() if strategies is None else strategies
    tried, refused = everything(chosen, grid, parameters, on, tariff, dtype)
    average = on.network().average(parameters, np.dtype(dtype).itemsize, on.groups())
    ranked = ordered(patient(tried, waiting), minimize)
    made = MethodPlan(parameters, on, minimize, waiting, ranked, tuple(tried), tuple(refused), average)
    return made if steps is None else made.to_loss(steps)


def parameters_of(model: int | Any) -> int:
    """Return how many parameters are trained of a model, or the number itself."""
    if not hasattr(model, "parameters"):
        return checks.integer("model", model)
    count = sum(each.numel() for each in model.parameters() if each.requires_grad)
    return checks.integer("the number of the model's parameters", count)


def everything(
    strategies: Sequence[Strategy],
    grid: Grid,
    parameters: int,
    on: Simulated,
    tariff: Tariff,
    dtype: DTypeLike,
) -> tuple[list[Candidate], list[tuple[Strategy, str]]]:
    """Return all candidates, and the strategies that cannot be any, with the reason."""
    if not strategies:
        raise ValueError("strategies must hold at least one")
    tried: list[Candidate] = []
    refused: list[tuple[Strategy, str]] = []
    for strategy in strategies:
        try:
            variants = grid.variants(strategy, parameters * np.dtype(dtype).itemsize)
        except ValueError as error:
            refused.append((strategy, str(error)))
            continue
        made, reasons = [], []
        for each in variants:
            try:
                made.append(priced(each, parameters, on, tariff=tariff, dtype=dtype))
            except ValueError as error:
                reasons.append(str(error))
        tried += made
        if not made:
            refused.append((strategy, reasons[0]))
    if not tried:
        raise ValueError(f"none of the strategies can be predicted: {refused[0][1]}")
    return tried, refused


def patient(tried: Iterable[Candidate], waiting: float) -> list[Candidate]:
    """Return of each method the candidate with the shortest period that hardly waits, else that waits least."""
    chosen = []
    for same in by_method(tried):
        quick = by_period(same)
        allowed = [number for number, each in sorted(quick.items()) if each.waiting_share <= waiting]
        chosen.append(quick[allowed[0]] if allowed else min(quick.values(), key=lambda each: each.waiting_share))
    return chosen


def by_method(candidates: Iterable[Candidate]) -> list[list[Candidate]]:
    """Return candidates that differ in period and buckets alone together."""
    found: dict[object, list[Candidate]] = defaultdict(list)
    for each in candidates:
        found[method(each.strategy)].append(each)
    return list(found.values())


def by_period(candidates: Iterable[Candidate]) -> dict[int, Candidate]:
    """Return of each period the fastest buckets; of those that are as fast, those with fewest messages."""
    found: dict[int, list[Candidate]] = defaultdict(list)
    for each in candidates:
        found[period(each.strategy)].append(each)
    chosen = {}
    for number, same in found.items():
        least = min(each.step_seconds for each in same)
        fast = (each for each in same if each.step_seconds <= AS_FAST * least)
        chosen[number] = min(fast, key=lambda each: each.messages_a_step)
    return chosen


def ordered(candidates: Iterable[Candidate], objective: Objective) -> tuple[Candidate, ...]:
    """Return candidates by what they cost, of equals the faster one first, then that with fewer bytes."""
    return tuple(sorted(candidates, key=lambda each: (each.cost(objective), each.seconds, each.bytes)))
