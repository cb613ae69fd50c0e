"""Stale synchronous parallel: what a read must hold, the largest gap, and lockstep."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.papers.problems import EQUAL, difference, in_turn, quadratics, trace
from tests.papers.staleness import UNEQUAL, counted

import loosestep as ls

PROBLEM = quadratics()


@pytest.mark.parametrize("on", UNEQUAL, ids=repr)
@pytest.mark.parametrize("bound", [1, 2, 5])
def test_a_read_holds_all_steps_of_everybody_up_to_the_bound_and_all_of_its_own(on: Any, bound: int) -> None:
    seen, _ = counted(ls.SSP(bound), on, 24)
    for rank, reads in enumerate(seen):
        for done, read in enumerate(reads):
            assert read[rank] == done, "its own, at once"
            assert read.min() >= done + 1 - bound
            assert read.max() <= done + bound, "and nobody is further ahead of it"


@pytest.mark.parametrize("bound", [1, 2, 5])
def test_the_bound_is_reached_and_the_slowest_never_waits(bound: int) -> None:
    on = ls.Simulated(
        4, step_time=1.0, latency=0.0, bandwidth=float("inf"), stragglers=ls.stragglers.SlowWorker(1, 6.0)
    )
    seen, result = counted(ls.SSP(bound), on, 24)
    gaps = [done - read[1] for done, read in enumerate(seen[0])]
    assert max(gaps) == bound - 1, "before a step; with that step, the bound"
    assert result.workers[1].waiting == 0
    assert result.workers[0].waiting > 0
    assert result.seconds == 24 * 6.0


def test_in_a_fixed_order_with_bound_1_the_steps_of_all_are_summed() -> None:
    """No worker reads late: it might then see steps of the next turn as well."""
    rate, c = 0.05, PROBLEM.start
    for _ in range(30):
        c = c - rate * sum(PROBLEM.gradient(c, i) for i in range(4))
    found = trace(ls.SSP(1), PROBLEM, 30, on=in_turn(4), optimizer=ls.SGD(rate))
    assert difference(found.center, c) < EQUAL
    assert difference(found.replicas, np.tile(c, (4, 1))) < EQUAL


def test_a_bound_beyond_what_can_be_open_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^bound must be at most 25, got 26: Downpour\(1\) has none$"):
        ls.SSP(26)
