"""Synchronous data-parallel SGD is SGD on the union of the workers' batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tests.papers.problems import EQUAL, RATE, Array, difference, in_turn, quadratics, trace

import loosestep as ls
from loosestep.foundation import buffers
from loosestep.requests.base import address
from loosestep.requests.worker import Worker

PROBLEM = quadratics()
ROWS = np.random.default_rng(3).normal(size=(60, 4))
TARGETS = ROWS @ np.array([1.0, -2.0, 0.5, 3.0]) + 0.1
TRANSPORTS = [in_turn(4), ls.Simulated(4), ls.Threads(4)]


def minibatch_sgd(steps: int) -> Array:
    """x <- x - eta mean_i g_i(x); steps + 1 rows."""
    path = [PROBLEM.start]
    for _ in range(steps):
        everywhere = np.tile(path[-1], (PROBLEM.workers, 1))
        path.append(path[-1] - RATE * PROBLEM.gradients(everywhere).mean(axis=0))
    return np.array(path)


@pytest.mark.parametrize("on", TRANSPORTS, ids=repr)
def test_every_replica_follows_the_mean_gradient(on: ls.Threads) -> None:
    found, expected = trace(ls.AllReduceSGD(), PROBLEM, 40, on=on), minibatch_sgd(40)
    for rank in range(PROBLEM.workers):
        assert difference(found.points[rank], expected[:-1]) < EQUAL
    assert difference(found.center, expected[-1]) < EQUAL


@pytest.mark.parametrize("on", TRANSPORTS, ids=repr)
def test_all_replicas_have_the_same_bits_at_every_step(on: ls.Threads) -> None:
    found = trace(ls.AllReduceSGD(), PROBLEM, 40, on=on, optimizer=ls.Adam(0.05))
    for rank in range(1, PROBLEM.workers):
        assert (found.points[rank] == found.points[0]).all()
        assert (found.replicas[rank] == found.replicas[0]).all()


def test_the_first_bucket_is_small_and_all_are_the_gradient_from_its_end() -> None:
    worker = Worker(0, 1, buffers.zeros(1000), lambda name, like: None)  # type: ignore[arg-type,return-value]
    buckets = worker.buckets(1600, 400)
    assert [bucket.grad.size for bucket in buckets] == [100, 400, 400, 100]
    assert [bucket.share for bucket in buckets] == [0.1, 0.5, 0.9, 1.0]
    assert [address(bucket.grad) - address(worker.grad) for bucket in buckets] == [3600, 2000, 400, 0]
    assert [bucket.grad.size for bucket in worker.buckets(1600)] == [400, 400, 200]
    assert [bucket.grad.size for bucket in worker.buckets(4000, 8000)] == [1000]


def test_buckets_begin_with_tensors_where_they_can() -> None:
    worker = Worker(0, 1, buffers.zeros(1000), lambda name, like: None)  # type: ignore[arg-type,return-value]
    worker.edges = [0, 10, 350, 700, 950]
    assert [bucket.grad.size for bucket in worker.buckets(1600, 400)] == [50, 250, 350, 350]
    few = [bucket.grad.size for bucket in worker.buckets(400)]  # a tensor larger than a bucket is cut
    assert few == [50, 100, 100, 50, 100, 100, 100, 50, 100, 100, 100, 50]
    assert [bucket.grad.size for bucket in worker.buckets(8000)] == [1000]


def test_the_size_of_buckets_does_not_change_a_bit() -> None:
    whole = trace(ls.AllReduceSGD(), PROBLEM, 40).center
    assert (trace(ls.AllReduceSGD(bucket_bytes=16), PROBLEM, 40).center == whole).all()


def least_squares(x: Array, batch: tuple[Array, Array]) -> Array:
    rows, targets = batch
    return np.asarray(rows.T @ (rows @ x - targets) / len(rows))


def shares(edges: list[int]) -> ls.adapters.numpy.Batches:
    """Every worker has its own slice of the rows, step after step."""

    def batches(rank: int, size: int) -> Iterator[tuple[Array, Array]]:
        mine = slice(edges[rank], edges[rank + 1])
        while True:
            yield ROWS[mine], TARGETS[mine]

    return batches


def fit(on: ls.Threads | ls.Serial, edges: list[int], strategy: ls.Strategy) -> Array:
    result = ls.run(strategy, least_squares, np.zeros(4), shares(edges), steps=30, on=on)
    return np.asarray(result.params)


@pytest.mark.parametrize("on", [ls.Simulated(3), ls.Threads(3)], ids=repr)
@pytest.mark.parametrize("strategy", [ls.AllReduceSGD(), ls.LocalSGD(period=1)], ids=repr)
def test_unequal_batches_equal_their_union(on: ls.Threads, strategy: ls.Strategy) -> None:
    union = fit(ls.Serial(), [0, 60], ls.AllReduceSGD())
    assert difference(fit(on, [0, 5, 22, 60], strategy), union) < EQUAL
    x = np.zeros(4)
    for _ in range(30):
        x = x - 0.1 * least_squares(x, (ROWS, TARGETS))
    assert difference(union, x) < EQUAL


def test_workers_without_data_leave_the_mean() -> None:
    ends = [10, 4, 7, 10]
    x = PROBLEM.start.copy()
    for step in range(10):
        present = [rank for rank in range(4) if step < ends[rank]]
        x = x - RATE * np.mean([PROBLEM.gradient(x, rank) for rank in present], axis=0)
    result = ls.run(
        ls.AllReduceSGD(),
        PROBLEM.gradient,
        PROBLEM.start,
        lambda rank, size: iter([rank] * ends[rank]),
        optimizer=ls.SGD(RATE),
        on=ls.Simulated(4),
    )
    assert difference(result.params, x) < EQUAL
