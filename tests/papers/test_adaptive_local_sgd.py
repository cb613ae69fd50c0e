"""A period that adapts: to the drift by its recursion, to the time by its closed form."""

from __future__ import annotations

from itertools import repeat
from math import sqrt
from typing import Any

import numpy as np
import pytest
from tests.contract.problem import facts
from tests.papers.problems import EQUAL, RATE, Array, difference, quadratics, trace

import loosestep as ls

PROBLEM = quadratics(4)


def recursion(distance: float, steps: int) -> tuple[Array, list[int]]:
    """The mean at the end, and the periods."""
    x, period, periods, done = PROBLEM.starts(), 1, [], 0
    while done + period <= steps:
        for _ in range(period):
            x = x - RATE * PROBLEM.gradients(x)
        mean = x.mean(axis=0)
        drift = float(np.mean(np.sum((x - mean) ** 2, axis=1)))
        x = np.tile(mean, (4, 1))
        done += period
        periods.append(period)
        period = max(1, int(period * min(2.0, sqrt(distance / drift))))
    return x[0], periods


@pytest.mark.parametrize("on", [ls.Simulated(4, latency=0.0), ls.Threads(4)], ids=repr)
@pytest.mark.parametrize("distance", [0.02, 0.5, 3.0])
def test_the_period_follows_the_drift(on: Any, distance: float) -> None:
    expected, periods = recursion(distance, 60)
    steps = sum(periods)
    found = trace(ls.AdaptiveLocalSGD(distance=distance), PROBLEM, steps, on=on)
    assert difference(found.center, expected) < EQUAL
    assert found.result.messages == len(periods) * 2 * 2 * 3, "the parameters and one number"


def test_a_larger_distance_averages_less_often() -> None:
    counts = [len(recursion(distance, 60)[1]) for distance in (1e-4, 0.5, 1e9)]
    assert counts[0] == 60
    assert counts[0] > counts[1] > counts[2] == 5, "1, 2, 4, 8, 16"


def spent(strategy: ls.Strategy, on: Any, steps: int) -> float:
    """The share of virtual time that the least waiting worker spent on communication."""
    batches = lambda rank, size: repeat(rank)  # noqa: E731
    result = ls.run(strategy, PROBLEM.gradient, PROBLEM.start, batches, on=on, steps=steps)
    return min(worker.waiting for worker in result.workers) / result.seconds


@pytest.mark.parametrize("share", [0.05, 0.2])
@pytest.mark.parametrize("stragglers", [ls.stragglers.Constant(), ls.stragglers.SlowWorker(2, 3.0)], ids=repr)
def test_communication_takes_its_share_of_the_time(share: float, stragglers: Any) -> None:
    """Waiting for the slow worker is no communication: it waits for nobody."""
    on = ls.Simulated(4, step_time=1e-3, latency=12e-3, stragglers=stragglers)
    assert 0.5 * share < spent(ls.AdaptiveLocalSGD(64, None, share), on, 6000) < 1.3 * share
    assert spent(ls.LocalSGD(1), on, 200) > 0.7


def test_the_period_is_the_closed_form() -> None:
    """An exchange takes a latency of 12 ms, a round has two, a step takes 1 ms: at a twentieth it is 19 * 24."""
    on = ls.Simulated(4, step_time=1e-3, latency=12e-3, bandwidth=1e30)
    strategy = ls.AdaptiveLocalSGD(period=228, distance=None, time_share=0.05)
    found = trace(strategy, PROBLEM, 2 * 228 + 4 * 456, on=on)
    assert found.result.messages == 6 * 2 * 3
    assert found.result.seconds == pytest.approx(2.28 + 6 * 2 * 12e-3, rel=1e-6)


def test_killed_and_resumed_it_keeps_its_period(tmp_path: Any) -> None:
    strategy = ls.AdaptiveLocalSGD(distance=None, time_share=0.3)
    batches = lambda rank, size: repeat(rank)  # noqa: E731

    def run(steps: int, **options: Any) -> ls.Result:
        on = ls.Simulated(4, stragglers=ls.stragglers.LogNormal())
        return ls.run(strategy, PROBLEM.gradient, PROBLEM.start, batches, on=on, steps=steps, **options)

    whole = run(60, checkpoint=tmp_path / "whole", checkpoint_every=23)
    run(23, checkpoint=tmp_path / "part", checkpoint_every=23)
    again = run(60, checkpoint=tmp_path / "part", checkpoint_every=23, resume=True)
    assert facts(again)[0] == facts(whole)[0]
    assert again.messages == whole.messages


def test_one_rule_must_be_chosen() -> None:
    for distance, share in ((None, None), (1.0, 0.1)):
        with pytest.raises(ValueError, match="give either distance or time_share"):
            ls.AdaptiveLocalSGD(distance=distance, time_share=share)
    with pytest.raises(ValueError, match=r"time_share must be below 1, got 1.0"):
        ls.AdaptiveLocalSGD(distance=None, time_share=1.0)
