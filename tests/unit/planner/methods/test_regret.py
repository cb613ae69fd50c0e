"""The first choice, from prices without numbers, is nearly the best of its grid when all are run with numbers."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.planner.methods.test_small_problem import PROBLEM, D

import loosestep as ls
from loosestep.planner.methods import Trial, plan

LINKS = {"fast": (1e-5, 1e10), "slow": (0.01, 5e7), "far": (0.2, 2e8)}
STRATEGIES = [ls.AllReduceSGD(), ls.LocalSGD(), ls.EASGD()]
KNOWN: dict[Any, Trial] = {}  # of synchronous strategies steps are counted once


@pytest.mark.parametrize("links", LINKS)
def test_the_first_choice_is_within_3_percent_of_the_best(links: str) -> None:
    on = ls.Simulated(3, 0.1, *LINKS[links])
    priced = plan(D, on, strategies=STRATEGIES, periods=(1, 2, 4), buckets=(25 << 20,))
    found = priced.to_loss(PROBLEM.steps([each.strategy for each in priced.tried], on, D, known=KNOWN))
    factors = {trial.strategy: trial.factor for trial in KNOWN.values()}
    seconds = {
        each.strategy: PROBLEM.trial(each.strategy, on, D, factor=factors[each.strategy]).seconds
        for each in found.tried
        if each.steps is not None
    }
    assert len(seconds) >= 5
    reached = [each for each in seconds.values() if each is not None]
    mine = seconds[found.best.strategy]
    assert mine is not None
    assert mine <= 1.03 * min(reached)
    assert max(reached) > 1.3 * min(reached) or links == "fast"  # there is something to lose
