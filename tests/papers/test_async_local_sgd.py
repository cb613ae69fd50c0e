"""Asynchronous local SGD: delayed Nesterov to the last bit of its algebra, and dynamic local updates."""

from __future__ import annotations

import numpy as np
import pytest
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
        ls.Simulated(2, step_time=1.0, latency=0.0, bandwidth=float("inf"), stragglers=ls.Slow(1, 4.0))
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
