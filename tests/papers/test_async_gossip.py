"""AD-PSGD and GoSGD: sums that are conserved whoever meets when, no deadlock, no message in part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Any

import numpy as np
import pytest
from tests.papers.problems import EQUAL, RATE, Array, difference, in_turn, quadratics, rank_forever, trace

import loosestep as ls
from loosestep.requests import Request
from loosestep.requests.worker import Worker
from loosestep.transports.base import Transport

PROBLEM = quadratics()
TRANSPORTS: list[Transport] = [
    in_turn(4),
    ls.Simulated(4, latency=2e-3, bandwidth=1e5, stragglers=ls.stragglers.LogNormal(0.5)),
    ls.Threads(4),
]


# --- AD-PSGD -------------------------------------------------------------------------------------------------


def test_it_averages_where_replicas_are_and_moves_them_by_old_gradients() -> None:
    """Steps take 1 and 1.37 seconds: at the end of one x_i moves, is read, and meets the other."""
    problem, times = quadratics(2), (1.0, 1.37)
    on = ls.Simulated(2, step_time=1.0, latency=0.0, bandwidth=inf, stragglers=ls.stragglers.SlowWorker(1, 1.37))
    found = trace(ls.ADPSGD(), problem, 12, on=on)
    x, points = problem.starts(), [[problem.start], [problem.start]]
    events = sorted((times[rank] * step, rank) for rank in (0, 1) for step in range(1, 13))
    for _, rank in events:
        x[rank] -= RATE * problem.gradient(points[rank][-1], rank)
        points[rank].append(x[rank].copy())
        if len(points[rank]) <= 12:
            x[:] = x.mean(axis=0)
    for rank in (0, 1):
        assert difference(found.points[rank], np.array(points[rank][:12])) < EQUAL


@dataclass(frozen=True, repr=False)
class SeenReplicas(ls.ADPSGD):
    states: dict[int, ls.State] = field(default_factory=dict, compare=False)

    def init(self, worker: Worker) -> ls.State:
        self.states[worker.rank] = super().init(worker)
        return self.states[worker.rank]

    def replicas(self) -> Array:
        rows = []
        for shared in vars(self.states[0].of).values():
            rows.append(np.zeros(shared.size))
            shared.store.fetch(rows[-1], 0)
        return np.array(rows)


@pytest.mark.parametrize("on", TRANSPORTS, ids=str)
def test_averages_of_pairs_conserve_the_sum_and_bring_workers_together(on: Transport) -> None:
    apart = ls.SGD(lambda step: RATE if step < 1 else 0.0)
    strategy = SeenReplicas()
    gradient = lambda x, rank: np.full_like(x, -rank)  # noqa: E731
    result = ls.run(strategy, gradient, np.zeros(5000), rank_forever, on=on, steps=60, optimizer=apart)
    replicas = strategy.replicas()
    assert difference(replicas.mean(axis=0), np.full(5000, RATE * 1.5)) < EQUAL  # the first step of rank r: eta r
    assert difference(result.params, np.full(5000, RATE * 1.5)) < EQUAL
    assert np.ptp(replicas, axis=0).max() < 0.1 * 3 * RATE


def test_four_thousand_exchanges_on_an_even_ring_do_not_wait_for_each_other() -> None:
    """Every worker asks its neighbours, as in a circle; three chunks of memory are locked in turn."""
    strategy = SeenReplicas(ls.Ring())
    x0 = np.zeros(6000)
    result = ls.run(strategy, lambda x, rank: np.zeros_like(x), x0, rank_forever, on=ls.Threads(4), steps=1000)
    assert [worker.steps for worker in result.workers] == [1000] * 4
    assert not strategy.replicas().any()


# --- GoSGD ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class SeenWeights(ls.GoSGD):
    seen: dict[int, tuple[Worker, ls.State]] = field(default_factory=dict, compare=False)
    moved: list[float] = field(default_factory=lambda: [0.0], compare=False)

    def init(self, worker: Worker) -> ls.State:
        state = super().init(worker)
        self.seen[worker.rank] = worker, state
        return state

    def receive(self, worker: Worker, state: ls.State) -> Iterator[Request]:
        """Count a first step of rank r, which adds a eta r."""
        if worker.round == 1:
            self.moved[0] += state.weight * RATE * worker.rank
        return super().receive(worker, state)

    def sums(self) -> tuple[float, Array]:
        """Of a, and of a x: of all workers and of what lies in their inboxes."""
        weight, product = 0.0, np.zeros(self.seen[0][0].params.size)
        for rank, (worker, state) in self.seen.items():
            inbox: Any = list(vars(state.inbox).values())[rank]
            there = np.zeros(inbox.size)
            inbox.store.fetch(there, 0)
            weight += state.weight + there[-1]
            product += state.weight * worker.params + there[:-1]
        return weight, product


@pytest.mark.parametrize("on", TRANSPORTS, ids=str)
def test_weights_and_weighted_sums_are_conserved_in_flight_too(on: Transport) -> None:
    """Without gradients after the first step, in which rank r moves to eta r."""
    strategy = SeenWeights(0.5)
    apart = ls.SGD(lambda step: RATE if step < 1 else 0.0)
    gradient = lambda x, rank: np.full_like(x, -rank)  # noqa: E731
    result = ls.run(strategy, gradient, np.zeros(5000), rank_forever, on=on, steps=80, optimizer=apart)
    weight, product = strategy.sums()
    assert weight == pytest.approx(1.0, abs=1e-12)
    apart_by = np.array([worker.params for worker in result.workers])
    assert np.ptp(apart_by, axis=0).max() < 0.9 * 3 * RATE, "they have met"
    assert (apart_by >= -1e-12).all()
    assert (apart_by <= 3 * RATE + 1e-12).all(), "averages, so nothing was merged in part"
    assert np.ptp(product) < 1e-12
    assert product[0] == pytest.approx(strategy.moved[0], abs=1e-12)


def test_gosgd_comes_to_the_minimum_of_data_that_are_alike() -> None:
    result = ls.run(
        ls.GoSGD(0.3),
        lambda x, rank: x - 2.0,
        np.zeros(3),
        rank_forever,
        on=ls.Simulated(8, bandwidth=inf),
        steps=200,
    )
    for worker in result.workers:
        assert difference(worker.params, np.full(3, 2.0)) < 1e-6
