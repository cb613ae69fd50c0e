"""Hogwild: alone it is SGD; exact adds lose nothing; in virtual time its gradients are n - 1 updates old."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

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
from loosestep.runtime.checkpoint.folder import Folder
from loosestep.runtime.checkpoint.resume_point import choose

ALONE = quadratics(1)
TRANSPORTS = [ls.Threads(4), ls.Simulated(4), ls.Simulated(4, stragglers=ls.stragglers.LogNormal(1.0))]


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
    "on", [ls.Threads(4), ls.Simulated(4), ls.Simulated(4, stragglers=ls.stragglers.LogNormal(1.0))], ids=repr
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


# --- moments -----------------------------------------------------------------------------------------------

LOCKSTEP = ls.Simulated(3, step_time=1.0)


@pytest.mark.parametrize("moments", ["shared", "own"])
def test_in_lockstep_velocities_are_one_or_a_workers_own(moments: str) -> None:
    """Shared: v <- mu v - eta g, x <- x + v by whoever comes; own: v is that of the worker whose turn it is."""
    problem, rate, mu = homogeneous(np.array([0.3]), 3), 0.2, 0.6
    x, v = [1.0, 1.0, 1.0], np.zeros(3)
    for k in range(3 * 30):
        place = 0 if moments == "shared" else k % 3
        v[place] = mu * v[place] - rate * 0.3 * x[-3]
        x.append(x[-1] + v[place])
    strategy, optimizer = ls.Hogwild(moments=moments), ls.Momentum(rate, mu)
    found = trace(strategy, problem, 30, on=LOCKSTEP, optimizer=optimizer)
    assert difference(found.center, np.array([x[-1]])) < 1e-12


def pulls(x: Array, batch: Array) -> Array:
    """Wherever x is, so that nothing is late."""
    return batch.astype(x.dtype)


def drawn(steps: int, workers: int) -> Array:
    return np.random.default_rng(0).normal(size=(steps, workers, 5))


@pytest.mark.parametrize("optimizer", [ls.Adam(0.1), ls.Momentum(0.1), ls.Nesterov(0.1)], ids=repr)
def test_workers_who_share_moments_are_one_optimizer_bit_for_bit(optimizer: ls.SGD) -> None:
    """Their steps one after the other, Adam's bias correction by the updates of all."""
    batches = drawn(20, 3)
    together = ls.run(
        ls.Hogwild(),
        pulls,
        np.zeros(5),
        lambda rank, size: iter(batches[:, rank]),
        optimizer=optimizer,
        on=LOCKSTEP,
    )
    alone = ls.run(
        ls.AllReduceSGD(), pulls, np.zeros(5), lambda rank, size: iter(batches.reshape(60, 5)), optimizer=optimizer
    )
    assert (together.params == alone.params).all()


def test_adam_of_a_workers_own_counts_its_own_updates() -> None:
    """Each worker's Adam walks by itself; x is the sum of the ways."""
    batches = drawn(20, 3)
    found = ls.run(
        ls.Hogwild(moments="own"), pulls, np.zeros(5), lambda rank, size: iter(batches[:, rank]),
        optimizer=ls.Adam(0.1), on=LOCKSTEP,
    )  # fmt: skip
    ways = [
        ls.run(
            ls.AllReduceSGD(),
            pulls,
            np.zeros(5),
            lambda rank, size, k=k: iter(batches[:, k]),
            optimizer=ls.Adam(0.1),
        )
        for k in range(3)
    ]
    assert difference(found.params, sum(way.params for way in ways)) < 1e-12


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_exact_adds_to_shared_moments_lose_nothing(workers: int, tmp_path: Path) -> None:
    """With mu = 1 the velocity is the sum of all gradients, whole numbers here; and all updates are counted."""
    rise = lambda x, batch: np.full_like(x, -1.0)  # noqa: E731
    ls.run(
        ls.Hogwild(), rise, np.zeros(257), rank_forever, optimizer=ls.Momentum(1.0, 1.0), steps=300,
        on=ls.Threads(workers), checkpoint=tmp_path,
    )  # fmt: skip
    folder = Folder(tmp_path, {"workers": workers}, resume=True)
    assert choose(folder, range(workers), lambda mine: [mine]) is not None
    tensors, facts = folder.read(0)
    assert (tensors["moment.0"] == 300 * workers).all()
    assert facts["worker"]["updates"] == 300 * workers


def test_a_resumed_run_goes_on_with_the_shared_moments(tmp_path: Path) -> None:
    problem, on = quadratics(3), ls.Simulated(3, stragglers=ls.stragglers.LogNormal(1.0))

    def go(folder: str, steps: int, resume: bool = False) -> Array:
        return ls.run(
            ls.Hogwild(), problem.gradient, problem.start, rank_forever, optimizer=ls.Adam(0.1), steps=steps,
            on=on, checkpoint=tmp_path / folder, checkpoint_every=13, resume=resume,
        ).params  # fmt: skip

    go("parts", 13)
    assert (go("parts", 30, resume=True) == go("whole", 30)).all()
