"""Asynchronous local SGD: delayed Nesterov to the last bit of its algebra, and dynamic local updates."""

from __future__ import annotations

from itertools import repeat
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.contract.test_resuming import CRASHES, check_crashes
from tests.papers.problems import EQUAL, RATE, Array, difference, homogeneous, quadratics, trace

import loosestep as ls
from loosestep import ops

PROBLEM = quadratics()


@pytest.mark.parametrize("delay", [1, 3, 8])
def test_pushes_of_one_vector_move_the_center_by_one_step_of_nesterov(delay: int) -> None:
    rate, mu, d = 0.7, 0.9, np.array([1.0, -2.0, 0.5])
    c, m, total = np.zeros(3), np.zeros(3), np.zeros(3)
    for push in range(1, delay + 1):
        ops.delayed_nesterov(c, m, total, d, rate, mu, delay, push)
    assert difference(c, -rate * (1 + mu) * d) < EQUAL
    assert difference(m, d) < EQUAL
    assert (total == 0).all()


def delayed(period: int, rounds: int, rate: float, mu: float, delay: int) -> Array:
    """Worker after worker pushes and pulls."""
    c, m, total, k = PROBLEM.start, np.zeros(5), np.zeros(5), 0
    pulled = list(PROBLEM.starts())
    for _ in range(rounds):
        for i in range(4):
            x = pulled[i]
            for _ in range(period):
                x = x - RATE * PROBLEM.gradient(x, i)
            d, k = pulled[i] - x, k + 1
            total = total + d
            if k % delay:
                c = c - rate * d / delay
            else:
                m, total = mu * m + total / delay, np.zeros(5)
                c = c - rate * (d / delay + mu * m)
            pulled[i] = c
    return c


@pytest.mark.parametrize("delay", [1, 3, 4])
@pytest.mark.parametrize("period", [1, 6])
def test_the_center_follows_the_recursion(period: int, delay: int) -> None:
    strategy = ls.AsyncLocalSGD(period, 0.2, 0.6, delay)
    assert difference(trace(strategy, PROBLEM, 15 * period).center, delayed(period, 15, 0.2, 0.6, delay)) < EQUAL


def test_by_default_a_step_of_the_momentum_comes_once_for_every_worker() -> None:
    default, given = (trace(ls.AsyncLocalSGD(2, delay=delay), PROBLEM, 20).center for delay in (None, 4))
    assert (default == given).all()


@pytest.mark.parametrize("mu", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("period", [1, 6])
def test_alone_the_outer_step_is_stable_up_to_nesterovs_limit(period: int, mu: float) -> None:
    """The pseudo-gradient of a quadratic is that of curvature 1 - q, q = (1 - eta h)^H."""
    share = 0.8
    problem = homogeneous(np.array([1 - (1 - share) ** (1 / period)]), 1)
    for factor, stable in ((0.98, True), (1.02, False)):
        rate = factor * 2 * (1 + mu) / (1 + 2 * mu) / share
        strategy = ls.AsyncLocalSGD(period, rate, mu)
        found = trace(strategy, problem, 300 * period, on=ls.Serial(), optimizer=ls.SGD(1.0), every=period)
        path = np.abs(found.centers[:, 0])
        assert (path[-20:].max() < 0.5 * path[140:160].max()) == stable


def test_workers_make_steps_in_proportion_to_their_speed_and_push_equally_often() -> None:
    strategy = ls.AsyncLocalSGD(8, speeds=(4.0, 1.0, 2.0, 0.1))
    assert [strategy.steps(rank, 4) for rank in range(4)] == [8, 2, 4, 1]
    on = ls.Metered(
        ls.Simulated(
            2, step_time=1.0, latency=0.0, bandwidth=float("inf"), stragglers=ls.stragglers.SlowWorker(1, 4.0)
        )
    )
    batches = lambda rank, size: iter([0.0] * (80 if rank == 0 else 20))  # noqa: E731
    ls.run(ls.AsyncLocalSGD(8, speeds=(4.0, 1.0)), lambda x, b: x, np.ones(3), batches, on=on)
    assert [meter.requests["Push"][0] for meter in on.meters] == [10, 10]


def test_a_speed_for_every_worker_is_wanted() -> None:
    strategy = ls.AsyncLocalSGD(speeds=(1.0, 2.0))
    with pytest.raises(ValueError, match="^speeds must be one for each of 3 workers, got 2$"):
        ls.run(strategy, lambda x, b: x, np.ones(2), lambda rank, size: iter([0.0]), on=ls.Simulated(3))
    with pytest.raises(ValueError, match="^speeds must be above 0 and finite, got 0.0$"):
        ls.AsyncLocalSGD(speeds=(1.0, 0.0))
    with pytest.raises(ValueError, match=r"^momentum must be at most 1, got 1.5$"):
        ls.AsyncLocalSGD(momentum=1.5)


def timed(strategy: ls.Strategy, *counts: int, **options: Any) -> tuple[list[int], ls.Result]:
    """(pushes of each, the result). Steps take 1 second, the last worker's 4; messages take no time."""
    workers = len(counts)
    slow = ls.stragglers.SlowWorker(workers - 1, 4.0)
    on = ls.Metered(ls.Simulated(workers, step_time=1.0, latency=0.0, bandwidth=inf, stragglers=slow))
    batches = lambda rank, size: repeat(rank, counts[rank])  # noqa: E731
    result = ls.run(strategy, lambda x, b: x, np.ones(3), batches, on=on, **options)
    return [meter.requests["Push"][0] for meter in on.meters], result


def test_measured_speeds_make_all_push_equally_often_after_the_first_round() -> None:
    """8 steps of the slow worker take as long as 4 rounds of the others; from then on it makes 2 a round."""
    pushes, result = timed(ls.AsyncLocalSGD(8, speeds="measured"), 80, 80, 8 + 2 * 6)
    assert pushes == [2 * 10, 2 * 10, 2 * (1 + 6)], "each with its speed in another message"
    assert result.seconds == 80.0
    assert [worker.waiting for worker in result.workers] == [0.0] * 3


def test_where_speeds_are_alike_nothing_is_measured_that_matters() -> None:
    measured, given = (trace(ls.AsyncLocalSGD(3, speeds=speeds), PROBLEM, 30) for speeds in ("measured", None))
    assert (measured.center == given.center).all()


def test_what_measured_speeds_send() -> None:
    sent = [trace(ls.AsyncLocalSGD(3, speeds=speeds), PROBLEM, 30).result for speeds in ("measured", None)]
    assert sent[0].bytes_sent - sent[1].bytes_sent == 10 * 4 * 8
    assert sent[0].messages - sent[1].messages == 10


def test_measured_speeds_outlive_a_crash(tmp_path: Path) -> None:
    on = ls.Simulated(3, stragglers=ls.stragglers.LogNormal(0.5), latency=2e-4)
    check_crashes(ls.AsyncLocalSGD(4, speeds="measured"), on, tmp_path, CRASHES[::2], seed=5)


def test_a_grace_period_lets_pushes_that_are_close_be_seen_together() -> None:
    """The slow worker is a quarter of a second late: within half a second of grace, so the fast one pulls both."""
    pulled = []
    for grace in (0.0, 0.5):
        seen: list[Any] = []
        late = ls.stragglers.SlowWorker(1, 1.25)
        on = ls.Simulated(2, step_time=1.0, latency=0.0, bandwidth=inf, stragglers=late)

        def gradient(x: Any, rank: int, seen: Any = seen) -> Any:
            seen.append((rank, x.copy()))
            return -np.eye(2)[rank]

        strategy = ls.AsyncLocalSGD(1, 1.0, 0.0, 1, speeds=None, grace=grace)
        rate = ls.SGD(1.0)
        batches = lambda rank, size: repeat(rank, 2)  # noqa: E731
        result = ls.run(strategy, gradient, np.zeros(2), batches, optimizer=rate, on=on)
        pulled.append([x.tolist() for rank, x in seen if rank == 0])
        assert result.params.tolist() == [2.0, 2.0]
    assert pulled == [[[0.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [1.0, 1.0]]]
