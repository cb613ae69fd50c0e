"""Hogwild: alone it is SGD; exact adds lose nothing; in virtual time its gradients are n - 1 updates old."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tests.papers.problems import (
    Array,
    around,
    changes_sides,
    delay_limit,
    difference,
    homogeneous,
    quadratics,
    rank_forever,
    sgd,
    trace,
)

import loosestep as ls

ALONE = quadratics(1)
TRANSPORTS = [ls.Threads(4), ls.Simulated(4), ls.Simulated(4, stragglers=ls.LogNormal(1.0))]


@pytest.mark.parametrize("on", [ls.Serial(), ls.Threads(1), ls.Simulated(1)], ids=repr)
@pytest.mark.parametrize("adds", ["exact", "racy"])
def test_one_thread_is_sequential_sgd_bit_for_bit(on: ls.Threads, adds: str) -> None:
    found, expected = trace(ls.Hogwild(adds), ALONE, 40, on=on), sgd(ALONE, 0, 40)
    assert (found.points[0] == expected[:-1]).all()
    assert (found.center == expected[-1]).all()


def counting(strategy: ls.Hogwild, workers: int, start: Array, steps: int) -> Array:
    """Each worker adds its own small whole numbers, whatever x is."""
    amounts = np.arange(start.size) % 5 + 1

    def gradient(x: Array, rank: int) -> Array:
        return (-(rank + 1) * amounts).astype(x.dtype)

    rate = ls.SGD(1.0)
    result = ls.run(strategy, gradient, start, rank_forever, optimizer=rate, steps=steps, on=ls.Threads(workers))
    return np.asarray(result.params)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_exact_adds_of_whole_numbers_sum_exactly(workers: int, dtype: type) -> None:
    start = np.zeros(1003, dtype)
    found = counting(ls.Hogwild("exact"), workers, start, 200)
    assert (found == 200 * workers * (workers + 1) // 2 * (np.arange(1003) % 5 + 1)).all()


@pytest.mark.parametrize("workers", [2, 4])
def test_racy_adds_on_one_coordinate_only_lose(workers: int) -> None:
    found = counting(ls.Hogwild("racy"), workers, np.zeros(1), 2000)
    assert found[0] == int(found[0])
    assert 2 <= found[0] <= 2000 * workers * (workers + 1) // 2


@pytest.mark.parametrize(
    "on", [ls.Threads(4), ls.Simulated(4), ls.Simulated(4, stragglers=ls.LogNormal(1.0))], ids=repr
)
def test_workers_on_disjoint_coordinates_equal_sequential_sgd_bit_for_bit(on: ls.Threads) -> None:
    problem = quadratics(4, 8)
    own = np.repeat(np.eye(4), 2, axis=1)  # worker i reads and writes coordinates 2i, 2i + 1

    def gradient(x: Array, rank: int) -> Array:
        return np.asarray(own[rank] * problem.gradient(x, rank))

    result = ls.run(ls.Hogwild(), gradient, problem.start, rank_forever, optimizer=ls.SGD(0.3), steps=40, on=on)
    for rank in range(4):
        expected = sgd(problem, rank, 40)[-1]
        assert (result.params[2 * rank : 2 * rank + 2] == expected[2 * rank : 2 * rank + 2]).all()


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 8])
def test_in_lockstep_it_is_stable_up_to_the_limit_of_a_delay_of_n_minus_1(workers: int) -> None:
    problem = homogeneous(around(delay_limit(workers - 1)), workers)
    on = ls.Simulated(workers, step_time=1.0)
    found = trace(ls.Hogwild(), problem, 800, on=on, optimizer=ls.SGD(1.0))
    assert changes_sides(found.points[0])


def test_in_lockstep_the_recursion_is_that_of_a_constant_delay() -> None:
    problem = homogeneous(np.array([0.3]), 3)
    x = [1.0, 1.0, 1.0]  # x(k+1) = x(k) - eta h x(k-2)
    for _ in range(3 * 30):
        x.append(x[-1] - 0.3 * x[-3])
    on = ls.Simulated(3, step_time=1.0)
    found = trace(ls.Hogwild(), problem, 30, on=on, optimizer=ls.SGD(1.0))
    assert difference(found.center, np.array([x[-1]])) < 1e-12


def shuffled_rows(rank: int, size: int) -> Iterator[int]:
    """Every worker walks all 60 rows, in orders of its own."""
    rng = np.random.default_rng(rank)
    return iter([row for _ in range(200) for row in rng.permutation(60)])


def test_threads_solve_a_consistent_sparse_system() -> None:
    """Hyperedges of two coordinates that overlap: collisions are rare, and steps at the solution are 0."""
    solution = np.random.default_rng(1).normal(size=60)

    def gradient(x: Array, row: int) -> Array:
        g, other = np.zeros(60), (row + 1) % 60
        error = 2 * (x[row] - solution[row]) + x[other] - solution[other]
        g[row], g[other] = 2 * error, error
        return g

    optimizer = ls.SGD(0.1)
    result = ls.run(ls.Hogwild(), gradient, np.zeros(60), shuffled_rows, optimizer=optimizer, on=ls.Threads(4))
    assert difference(result.params, solution) < 1e-6
