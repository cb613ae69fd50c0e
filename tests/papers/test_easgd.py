"""Asynchronous EASGD and EAMSGD: round robin by hand, the conserved sum, and where round robin is stable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from tests.papers.problems import (
    EQUAL,
    RATE,
    Array,
    around,
    changes_sides,
    difference,
    falls,
    growth,
    homogeneous,
    in_turn,
    look_ahead,
    quadratics,
    sgd,
    trace,
)

import loosestep as ls
from loosestep.requests import Request, Sleep

PROBLEM = quadratics()
ALPHA = 0.2
TRANSPORTS = [in_turn(4), ls.Simulated(4), ls.Simulated(4, stragglers=ls.stragglers.LogNormal(0.5)), ls.Threads(4)]


@dataclass(frozen=True, repr=False)
class StaggeredEASGD(ls.EASGD):
    """Worker i begins i/n of a period (of one-second steps) later."""

    def round(self, worker: ls.worker.Worker, state: ls.State) -> Iterator[Request]:
        if worker.round == 1:
            yield Sleep(worker.rank * self.period / worker.size)
        yield from super().round(worker, state)


def round_robin(order: str, period: int, steps: int, mu: float = 0.0) -> tuple[Array, Array]:
    """Worker after worker makes a step of its own; every `period` steps it moves elastically with the live c.

    Points are y = x + mu v, where the gradient is taken: y <- y - eta g(y) + mu v, v <- mu v - eta g(y).
    """
    y, v, c = PROBLEM.starts(), np.zeros_like(PROBLEM.starts()), PROBLEM.start.copy()
    path = [y.copy()]
    for t in range(steps):
        for i in range(PROBLEM.workers):
            g = PROBLEM.gradient(y[i], i)
            v[i] = mu * v[i] - RATE * g
            old, step = y[i].copy(), mu * v[i] - RATE * g
            if order == "published":
                d = ALPHA * (old - c) * (t % period == 0)
            else:
                d = ALPHA * (old + step - c) * ((t + 1) % period == 0)
            y[i], c = old + step - d, c + d
        path.append(y.copy())
    return np.array(path), c


@pytest.mark.parametrize("period", [1, 3])
@pytest.mark.parametrize("order", ["published", "after"])
@pytest.mark.parametrize("mu", [0.0, 0.8])
def test_workers_and_center_follow_the_recursion_in_round_robin(order: str, period: int, mu: float) -> None:
    optimizer = ls.Nesterov(RATE, mu)
    found = trace(ls.EASGD(period, ALPHA, order=order), PROBLEM, 42, optimizer=optimizer)
    path, c = round_robin(order, period, 42, mu)
    assert difference(np.stack(found.points, axis=1), path[:-1]) < EQUAL
    assert difference(found.replicas, path[-1]) < EQUAL
    assert difference(found.center, c) < EQUAL


def test_eamsgd_differs_from_its_release_by_the_elastic_pull_on_the_momentum() -> None:
    """The release pulls x = y - mu v towards c, EASGD(Nesterov) y: written with that d, the release is ours."""
    mu, x, v, c = 0.8, PROBLEM.starts(), np.zeros_like(PROBLEM.starts()), PROBLEM.start.copy()
    for t in range(30):
        for i in range(4):
            y = x[i] + mu * v[i]
            d = ALPHA * (y - c) * (t % 3 == 0)  # the release: alpha (x[i] - c)
            v[i] = mu * v[i] - RATE * PROBLEM.gradient(y, i)
            x[i], c = x[i] + v[i] - d, c + d
    found = trace(ls.EASGD(3, ALPHA, order="published"), PROBLEM, 30, optimizer=ls.Nesterov(RATE, mu))
    assert difference(found.center, c) < EQUAL


def test_the_default_moving_rate_is_beta_0_9_over_n() -> None:
    given = trace(ls.EASGD(4, 0.9 / 4), PROBLEM, 40).center
    assert (trace(ls.EASGD(4), PROBLEM, 40).center == given).all()


@pytest.mark.parametrize("order", ["published", "after"])
def test_without_momentum_eamsgd_is_easgd_bit_for_bit(order: str) -> None:
    plain = trace(ls.EASGD(3, order=order), PROBLEM, 42)
    with_zero = trace(ls.EASGD(3, order=order), PROBLEM, 42, optimizer=ls.Nesterov(RATE, 0.0))
    assert (plain.center == with_zero.center).all()
    assert (plain.replicas == with_zero.replicas).all()


@pytest.mark.parametrize("on", TRANSPORTS, ids=repr)
def test_without_elasticity_workers_are_alone_and_the_center_rests(on: ls.Threads) -> None:
    found = trace(ls.EASGD(3, 0.0), PROBLEM, 40, on=on)
    assert (found.center == PROBLEM.start).all()
    for rank in range(4):
        assert difference(found.points[rank], sgd(PROBLEM, rank, 40)[:-1]) < EQUAL


def test_one_worker_without_elasticity_is_msgd_bit_for_bit() -> None:
    alone, optimizer = quadratics(1), ls.Nesterov(RATE, 0.99)
    found = trace(ls.EASGD(3, 0.0), alone, 40, on=ls.Serial(), optimizer=optimizer)
    msgd = trace(ls.AllReduceSGD(), alone, 40, on=ls.Serial(), optimizer=optimizer)
    assert (found.points[0] == msgd.points[0]).all()
    expected = look_ahead(lambda x: alone.gradient(x, 0), alone.start, 40, RATE, 0.99)
    assert difference(found.points[0], expected[:-1]) < EQUAL


@pytest.mark.parametrize("on", TRANSPORTS, ids=repr)
@pytest.mark.parametrize("order", ["published", "after"])
def test_exchanges_conserve_the_center_plus_all_replicas(on: ls.Threads, order: str) -> None:
    """Whoever met whom and when: c + sum x_i has moved by the gradient steps alone."""
    found = trace(ls.EASGD(3, ALPHA, order=order), PROBLEM, 60, on=on)
    steps = sum(RATE * PROBLEM.gradient(x, rank) for rank in range(4) for x in found.points[rank])
    total = found.center + found.replicas.sum(axis=0)
    assert difference(total, 5 * PROBLEM.start - steps) < EQUAL


@pytest.mark.parametrize("on", TRANSPORTS, ids=repr)
def test_without_gradients_the_sum_rests_while_the_parts_move(on: ls.Threads) -> None:
    apart = ls.SGD(lambda step: RATE if step < 6 else 0.0)
    found = trace(ls.EASGD(2, ALPHA), PROBLEM, 60, on=on, optimizer=apart)
    steps = sum(RATE * PROBLEM.gradient(x, rank) for rank in range(4) for x in found.points[rank][:6])
    assert difference(found.center + found.replicas.sum(axis=0), 5 * PROBLEM.start - steps) < EQUAL
    assert difference(found.points[0][-1], found.points[0][7]) > 1e-3


# --- stability in round robin --------------------------------------------------------------------------------


def alpha_limit(eta_h: float) -> float:
    return (4 - 2 * eta_h) / (4 - eta_h)


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 5, 8, 16])
@pytest.mark.parametrize("eta_h", [0.1, 1.0, 1.9])
def test_inside_the_published_region_it_is_stable(workers: int, eta_h: float) -> None:
    """The limit on alpha falls with eta h, so smaller curvatures are inside as well."""
    curvatures = np.linspace(0.05, eta_h, 4)
    strategy = ls.EASGD(1, 0.98 * alpha_limit(eta_h), order="published")
    steps = 3000 if eta_h > 1.8 and workers < 8 else 300  # there it falls slowly, and swings
    found = trace(strategy, homogeneous(curvatures, workers), steps, optimizer=ls.SGD(1.0), every=1)
    assert falls(found.centers)
    assert falls(found.points[-1])


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_alone_it_is_unstable_just_outside(alpha: float) -> None:
    limit = 4 * (1 - alpha) / (2 - alpha)  # on eta h: alpha_limit solved for it
    assert alpha_limit(limit) == pytest.approx(alpha)
    strategy = ls.EASGD(1, alpha, order="published")
    problem = homogeneous(around(limit), 1)
    found = trace(strategy, problem, 400, on=ls.Serial(), optimizer=ls.SGD(1.0))
    assert changes_sides(found.points[0])


def test_the_order_after_is_stable_where_the_published_one_is_not() -> None:
    problem, rates = homogeneous(np.array([1.0]), 1), {}
    for order in ("published", "after"):
        found = trace(ls.EASGD(1, 0.9, order=order), problem, 60, on=ls.Serial(), optimizer=ls.SGD(1.0), every=1)
        rates[order] = growth(found.centers + 1e-300)[0]
    assert rates["published"] > 1.25
    assert rates["after"] < 0.8


@pytest.mark.parametrize("order", ["published", "after"])
@pytest.mark.parametrize(("workers", "period"), [(4, 16), (4, 64), (8, 16), (16, 64)])
def test_staggered_it_is_stable_at_every_curvature(order: str, workers: int, period: int) -> None:
    """Where Downpour's limits on eta h are .0361, .00916 and .01455."""
    curvatures = np.array([0.01, 0.05, 0.2, 0.5, 1.0, 1.5, 1.7])
    strategy = StaggeredEASGD(period, order=order)
    problem = homogeneous(curvatures, workers)
    found = trace(strategy, problem, 12 * period, optimizer=ls.SGD(1.0), every=period)
    per_period = np.abs(found.centers[11] / found.centers[5]) ** (1 / 6)
    assert (per_period < 0.9).all()
    assert (per_period > 0.2).all()
