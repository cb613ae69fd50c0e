"""SpeeDO's partially synchronous mode: how far anybody can be ahead, and lockstep."""

from __future__ import annotations

from typing import Any

import pytest
from tests.papers.problems import EQUAL, difference, in_turn, quadratics, trace
from tests.papers.staleness import UNEQUAL, counted

import loosestep as ls

PROBLEM = quadratics()


@pytest.mark.parametrize("on", UNEQUAL, ids=repr)
@pytest.mark.parametrize("period", [1, 3, 4])
def test_nobody_begins_anew_before_all_have_begun(on: Any, period: int) -> None:
    seen, _ = counted(ls.PartiallySynchronous(period), on, 24)
    for rank, reads in enumerate(seen):
        for done, read in enumerate(reads):
            turn = done // period
            assert read[rank] == done
            assert read.min() >= (turn - 1) * period + 1 if turn else read.min() >= 0


def test_the_fastest_comes_as_far_as_that() -> None:
    on = ls.Simulated(
        4, step_time=1.0, latency=0.0, bandwidth=float("inf"), stragglers=ls.stragglers.SlowWorker(1, 6.0)
    )
    seen, _ = counted(ls.PartiallySynchronous(4), on, 24)
    gaps = [done - read[1] for done, read in enumerate(seen[0])]
    assert max(gaps) == 6, "a whole turn, and all but the last step of the next: 2 (4 - 1)"


def test_in_a_fixed_order_with_period_1_the_steps_of_all_are_summed() -> None:
    rate, c = 0.05, PROBLEM.start
    for _ in range(30):
        c = c - rate * sum(PROBLEM.gradient(c, i) for i in range(4))
    assert (
        difference(trace(ls.PartiallySynchronous(1), PROBLEM, 30, on=in_turn(4), optimizer=ls.SGD(rate)).center, c)
        < EQUAL
    )
