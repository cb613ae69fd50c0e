"""DOWNPOUR: its recursion, its two extremes, and the closed forms of where it breaks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
import pytest
from tests.papers.problems import (
    EQUAL,
    RATE,
    Array,
    all_at_once,
    around,
    changes_sides,
    delay_limit,
    difference,
    homogeneous,
    in_turn,
    quadratics,
    sgd,
    trace,
)

import loosestep as ls
from loosestep.requests import Request, Sleep

PROBLEM = quadratics()
TRANSPORTS = [in_turn(4), ls.Simulated(4, stragglers=ls.stragglers.LogNormal(0.5)), ls.Threads(4)]
PUBLISHED = [(1, 2.0), (2, 1.0), (3, 0.618), (4, 0.445), (8, 0.209), (16, 0.101)]


@dataclass(frozen=True, repr=False)
class StaggeredDownpour(ls.Downpour):
    """Worker i begins i/n of a period (of one-second steps) later, so pushes are period/n apart."""

    def round(self, worker: ls.worker.Worker, state: ls.State) -> Iterator[Request]:
        if worker.round == 1:
            yield Sleep(worker.rank * self.period / worker.size)
        yield from super().round(worker, state)


def local_steps(x: Array, rank: int, period: int) -> Array:
    for _ in range(period):
        x = x - RATE * PROBLEM.gradient(x, rank)
    return x


def one_after_another(period: int, rounds: int) -> Array:
    """Every worker in turn: steps from what it pulled, c += their sum, x = c. The centers after each round."""
    c, pulled, path = PROBLEM.start, list(PROBLEM.starts()), []
    for _ in range(rounds):
        for i in range(PROBLEM.workers):
            c = c + (local_steps(pulled[i], i, period) - pulled[i])
            pulled[i] = c
        path.append(c)
    return np.array(path)


def together(period: int, rounds: int) -> Array:
    """All pushes land, then all pull."""
    c, path = PROBLEM.start, []
    for _ in range(rounds):
        c = c + sum(local_steps(c, i, period) - c for i in range(PROBLEM.workers))
        path.append(c)
    return np.array(path)


@pytest.mark.parametrize("period", [1, 3])
def test_pushes_one_after_another_follow_the_recursion(period: int) -> None:
    expected = one_after_another(period, 14)
    assert difference(trace(ls.Downpour(period), PROBLEM, 14 * period).center, expected[-1]) < EQUAL
    staggered = trace(StaggeredDownpour(period), PROBLEM, 14 * period)
    assert difference(staggered.center, expected[-1]) < EQUAL


@pytest.mark.parametrize("period", [1, 3])
def test_pushes_at_once_are_summed(period: int) -> None:
    found = trace(ls.Downpour(period), PROBLEM, 10 * period, on=all_at_once(4, 5))
    expected = together(period, 10)
    assert difference(found.center, expected[-1]) < EQUAL * np.abs(expected).max()
    assert difference(found.points[2][period::period], expected[:-1]) < EQUAL * np.abs(expected).max()


@pytest.mark.parametrize("period", [1, 4, 40])
def test_one_worker_is_sgd_at_any_period(period: int) -> None:
    alone = quadratics(1)
    found = trace(ls.Downpour(period), alone, 40, on=ls.Serial())
    assert difference(found.points[0], sgd(alone, 0, 40)[:-1]) < EQUAL


def taking_turns(rank: int, size: int) -> Iterator[int | None]:
    """Every second step is one worker's, in turn; all other steps add nothing, but push and pull."""
    for step in count():
        turn, idle = divmod(step, 2)
        yield turn if not idle and turn % size == rank else None


def test_strict_round_robin_at_period_1_is_sequential_sgd_on_the_interleaved_data() -> None:
    minima = np.random.default_rng(5).normal(size=(40, 5))

    def gradient(x: Array, batch: int | None) -> Array:
        return np.zeros(5) if batch is None else 0.7 * (x - minima[batch])

    found = ls.run(
        ls.Downpour(1), gradient, PROBLEM.start, taking_turns, optimizer=ls.SGD(RATE), steps=80, on=in_turn(4)
    )
    x = PROBLEM.start
    for batch in range(40):
        x = x - RATE * gradient(x, batch)
    assert difference(found.params, x) < EQUAL


@pytest.mark.parametrize(
    "on", [in_turn(4), ls.Simulated(4, stragglers=ls.stragglers.LogNormal(0.5)), ls.Threads(4)], ids=repr
)
def test_the_center_is_the_start_plus_all_steps_of_all_workers(on: ls.Threads) -> None:
    found = trace(ls.Downpour(3), PROBLEM, 30, on=on, optimizer=ls.SGD(0.05))
    steps = sum(0.05 * PROBLEM.gradient(x, rank) for rank in range(4) for x in found.points[rank])
    assert difference(found.center, PROBLEM.start - steps) < EQUAL


# --- where it breaks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workers", "limit"), [(1, 2.0), (2, 1.0), (3, 0.618), (4, 0.445), (8, 0.209), (16, 0.101)]
)
def test_the_limits_of_a_delay_are_those_published(workers: int, limit: float) -> None:
    assert delay_limit(workers - 1) == pytest.approx(limit, abs=1e-3)


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 8])
def test_at_period_1_gradients_are_n_minus_1_updates_old(workers: int) -> None:
    problem = homogeneous(around(delay_limit(workers - 1)), workers)
    found = trace(ls.Downpour(1), problem, 800, optimizer=ls.SGD(1.0))
    assert changes_sides(found.points[0])


def staggered_limit(workers: int, period: int) -> float:
    return 1 - (1 - delay_limit(workers - 1)) ** (1 / period)


def test_the_staggered_limits_are_those_published() -> None:
    assert staggered_limit(4, 16) == pytest.approx(0.0361, abs=5e-5)
    assert staggered_limit(4, 64) == pytest.approx(0.00916, abs=5e-6)
    assert staggered_limit(8, 16) == pytest.approx(0.01455, abs=5e-6)


@pytest.mark.parametrize(("workers", "period", "rounds"), [(3, 4, 300), (4, 16, 300), (4, 64, 200), (8, 16, 600)])
def test_staggered_it_is_stable_up_to_the_closed_form(workers: int, period: int, rounds: int) -> None:
    problem = homogeneous(around(staggered_limit(workers, period)), workers)
    strategy = StaggeredDownpour(period)
    found = trace(strategy, problem, rounds * period, optimizer=ls.SGD(1.0), every=period)
    assert changes_sides(found.centers)


def test_the_staggered_center_obeys_the_delayed_recursion() -> None:
    """c(k+1) = c(k) - (1 - q) c(k-N+1), k counting the pushes of all workers."""
    workers, period, q = 4, 16, (1 - 0.03) ** 16
    c = [1.0] * workers
    for _ in range(20 * workers):
        c.append(c[-1] - (1 - q) * c[-workers])
    problem = homogeneous(np.array([0.03]), workers)
    found = trace(StaggeredDownpour(period), problem, 20 * period, optimizer=ls.SGD(1.0))
    assert found.center[0] == pytest.approx(c[-1], abs=EQUAL)


@pytest.mark.parametrize(("workers", "period"), [(2, 1), (3, 1), (3, 8), (4, 16), (8, 16)])
def test_pushing_at_once_it_is_stable_up_to_the_closed_form(workers: int, period: int) -> None:
    limit = 1 - max(0.0, 1 - 2 / workers) ** (1 / period)  # N (1 - q) = 2
    problem = homogeneous(around(limit), workers)
    on = all_at_once(workers, 2)
    found = trace(ls.Downpour(period), problem, 120 * period, on=on, optimizer=ls.SGD(1.0), every=period)
    assert changes_sides(found.centers)


@pytest.mark.parametrize("eta_h", [0.05, 0.5, 0.99])
def test_pushing_at_once_three_workers_diverge_at_a_long_period_whatever_the_rate(eta_h: float) -> None:
    problem = homogeneous(np.array([eta_h]), 3)
    found = trace(ls.Downpour(64), problem, 64 * 20, on=all_at_once(3, 1), optimizer=ls.SGD(1.0), every=64)
    assert abs(found.centers[19, 0]) > 1e5
