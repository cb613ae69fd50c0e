"""Local SGD: its recursion, its two extremes, and when the period matters."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tests.papers.problems import (
    EQUAL,
    RATE,
    Array,
    Quadratics,
    around,
    changes_sides,
    difference,
    homogeneous,
    in_turn,
    quadratics,
    sgd,
    trace,
)

import loosestep as ls

PROBLEM = quadratics()
TRANSPORTS = [in_turn(4), ls.Threads(4)]


def local_sgd(problem: Quadratics, period: int, steps: int, mu: float = 0.0, buffers: str = "keep") -> Array:
    """All replicas after every step: x_i <- x_i - eta u_i, u_i <- mu u_i + g_i(x_i); (steps + 1, n, d)."""
    x, u = problem.starts(), np.zeros((problem.workers, len(problem.start)))
    path = [x]
    for step in range(1, steps + 1):
        u = mu * u + problem.gradients(x)
        x = x - RATE * u
        if step % period == 0:
            x = np.tile(x.mean(axis=0), (problem.workers, 1))
            if buffers == "average":
                u = np.tile(u.mean(axis=0), (problem.workers, 1))
            elif buffers == "reset":
                u = np.zeros_like(u)
        path.append(x)
    return np.array(path)


def points(found: list[Array]) -> Array:
    return np.stack(found, axis=1)


@pytest.mark.parametrize("on", TRANSPORTS, ids=repr)
@pytest.mark.parametrize("period", [1, 4, 7])
def test_replicas_follow_the_recursion(on: ls.Threads, period: int) -> None:
    found, expected = trace(ls.LocalSGD(period), PROBLEM, 42, on=on), local_sgd(PROBLEM, period, 42)
    assert difference(points(found.points), expected[:-1]) < EQUAL
    assert difference(found.center, expected[-1].mean(axis=0)) < EQUAL


@pytest.mark.parametrize("on", TRANSPORTS, ids=repr)
@pytest.mark.parametrize("buffers", ["keep", "reset", "average"])
def test_momentum_is_kept_reset_or_averaged(on: ls.Threads, buffers: str) -> None:
    optimizer = ls.Momentum(RATE, 0.7)
    found = trace(ls.LocalSGD(4, momentum=buffers), PROBLEM, 40, on=on, optimizer=optimizer)
    expected = local_sgd(PROBLEM, 4, 40, 0.7, buffers)
    assert difference(points(found.points), expected[:-1]) < EQUAL


def test_above_period_1_keep_reset_and_average_are_three_algorithms() -> None:
    ends = [local_run(4, buffers) for buffers in ("keep", "reset", "average")]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert difference(ends[one], ends[other]) > 1e-3


def local_run(period: int, buffers: str) -> Array:
    strategy = ls.LocalSGD(period, momentum=buffers)
    return trace(strategy, PROBLEM, 40, optimizer=ls.Momentum(RATE, 0.7)).center


def test_at_period_1_keep_and_average_are_minibatch_momentum_sgd() -> None:
    expected = trace(ls.AllReduceSGD(), PROBLEM, 40, optimizer=ls.Momentum(RATE, 0.7)).center
    assert difference(local_run(1, "keep"), expected) < EQUAL
    assert difference(local_run(1, "average"), expected) < EQUAL


def test_at_period_1_reset_leaves_no_momentum() -> None:
    assert difference(local_run(1, "reset"), trace(ls.AllReduceSGD(), PROBLEM, 40).center) < EQUAL


@pytest.mark.parametrize("steps", [1, 24])
def test_a_period_of_all_steps_is_one_shot_averaging(steps: int) -> None:
    alone = np.mean([sgd(PROBLEM, rank, steps)[-1] for rank in range(4)], axis=0)
    assert difference(trace(ls.LocalSGD(steps), PROBLEM, steps).center, alone) < EQUAL


def test_with_one_curvature_the_period_does_not_change_the_mean() -> None:
    problem = quadratics(alike=True)
    ends = [trace(ls.LocalSGD(period), problem, 24).center for period in (1, 4, 24)]
    assert difference(ends[0], ends[1]) < EQUAL
    assert difference(ends[0], ends[2]) < EQUAL


def test_with_many_curvatures_the_period_biases_the_mean() -> None:
    ends = [trace(ls.LocalSGD(period), PROBLEM, 24).center for period in (1, 4, 24)]
    assert difference(ends[0], ends[1]) > 1e-2
    assert difference(ends[1], ends[2]) > 1e-2


@pytest.mark.parametrize("period", [1, 5, 16])
def test_with_one_curvature_it_is_stable_up_to_eta_h_2_at_any_period(period: int) -> None:
    found = trace(ls.LocalSGD(period), homogeneous(around(2.0), 3), 240, optimizer=ls.SGD(1.0))
    assert changes_sides(found.points[0])


def test_replicas_have_the_same_bits_after_an_average() -> None:
    replicas = trace(ls.LocalSGD(5), PROBLEM, 40).replicas
    assert (replicas == replicas[0]).all()


def test_the_mean_weighs_workers_by_their_samples() -> None:
    counts = np.array([1, 2, 3, 10])
    x = PROBLEM.starts()
    for step in range(1, 25):
        x = x - RATE * PROBLEM.gradients(x)
        if step % 6 == 0:
            x = np.tile(counts @ x / counts.sum(), (4, 1))

    def batches(rank: int, size: int) -> Iterator[list[int]]:
        while True:
            yield [rank] * counts[rank]

    result = ls.run(
        ls.LocalSGD(6),
        lambda point, batch: PROBLEM.gradient(point, batch[0]),
        PROBLEM.start,
        batches,
        optimizer=ls.SGD(RATE),
        steps=24,
        on=ls.Simulated(4),
    )
    assert difference(result.params, x[0]) < EQUAL


def test_one_shot_averaging_divides_the_variance_by_n_and_leaves_the_bias() -> None:
    def batches(rank: int, size: int) -> Iterator[Array]:
        rng = np.random.default_rng(rank)
        while True:
            yield rng.normal(size=(1, 4000))  # every coordinate is an experiment of its own

    def end(workers: int) -> Array:
        result = ls.run(
            ls.LocalSGD(20),
            lambda x, batch: x - batch[0],
            np.ones(4000),
            batches,
            optimizer=ls.SGD(0.1),
            steps=20,
            on=ls.Simulated(workers),
        )
        return np.asarray(result.params)

    one, eight = end(1), end(8)
    assert 7 < one.var() / eight.var() < 9
    assert one.mean() == pytest.approx(0.9**20, abs=0.02)
    assert eight.mean() == pytest.approx(0.9**20, abs=0.01)
