"""Synchronous EASGD: both orders, its server-free form, its limits."""

from __future__ import annotations

import numpy as np
import pytest
from tests.papers.problems import (
    EQUAL,
    RATE,
    Array,
    around,
    changes_sides,
    difference,
    growth,
    homogeneous,
    in_turn,
    quadratics,
    trace,
)

import loosestep as ls

PROBLEM = quadratics()
TRANSPORTS = [in_turn(4), ls.Threads(4)]


def published(alpha: float, beta: float, period: int, steps: int) -> tuple[Array, Array]:
    """Both right-hand sides from the old values; the elastic terms only where t mod period is 0."""
    x, c = PROBLEM.starts(), PROBLEM.start.copy()
    xs, cs = [x], [c]
    for t in range(steps):
        new = x - RATE * PROBLEM.gradients(x)
        if t % period == 0:
            new = new - alpha * (x - c)
            c = (1 - beta) * c + beta * x.mean(axis=0)
        x = new
        xs.append(x)
        cs.append(c)
    return np.array(xs), np.array(cs)


def after(alpha: float, beta: float, period: int, steps: int) -> tuple[Array, Array]:
    """Steps first; then c takes an outer step of N alpha towards the mean, replicas merge with the old c."""
    x, c = PROBLEM.starts(), PROBLEM.start.copy()
    xs, cs = [x], [c]
    for t in range(1, steps + 1):
        x = x - RATE * PROBLEM.gradients(x)
        if t % period == 0:
            x, c = (1 - alpha) * x + alpha * c, c - beta * (c - x.mean(axis=0))
        xs.append(x)
        cs.append(c)
    return np.array(xs), np.array(cs)


@pytest.mark.parametrize("on", TRANSPORTS, ids=repr)
@pytest.mark.parametrize("period", [1, 3])
@pytest.mark.parametrize(("order", "reference"), [("published", published), ("after", after)])
def test_replicas_and_center_follow_the_recursion(on: ls.Threads, period: int, order: str, reference) -> None:
    found = trace(ls.SyncEASGD(period, 0.2, order=order), PROBLEM, 42, on=on)
    xs, cs = reference(0.2, 0.8, period, 42)
    assert difference(np.stack(found.points, axis=1), xs[:-1]) < EQUAL
    assert difference(found.replicas, xs[-1]) < EQUAL
    assert difference(found.center, cs[-1]) < EQUAL


def test_the_default_rates_are_those_of_the_paper() -> None:
    found = trace(ls.SyncEASGD(4, order="published"), PROBLEM, 40)
    assert difference(found.center, published(0.9 / 4, 0.9, 4, 40)[1][-1]) < EQUAL


def test_the_server_free_form_is_the_same_method() -> None:
    alpha, n = 0.2, 4
    x, c = PROBLEM.starts(), PROBLEM.start.copy()
    for _ in range(40):
        x = x - RATE * PROBLEM.gradients(x)
        x = (1 - alpha) * x + alpha * c
        shares = (1 / n - alpha - alpha**2 / (1 - alpha)) * c + alpha / (1 - alpha) * x
        c = shares.sum(axis=0)
    found = trace(ls.SyncEASGD(1, alpha), PROBLEM, 40)
    assert difference(found.center, c) < EQUAL
    assert difference(found.replicas, x) < EQUAL


def test_beta_1_makes_the_center_the_mean_of_the_old_replicas() -> None:
    strategy = ls.SyncEASGD(1, 0.2, center_rate=1.0, order="published")
    found = trace(strategy, PROBLEM, 40, every=1)
    means = np.mean(found.points, axis=0)  # centers[k] is c(k + 1), points[k] is x(k)
    assert difference(found.centers[:40], means) < EQUAL


def test_alpha_1_over_n_makes_the_center_the_mean_too() -> None:
    found = trace(ls.SyncEASGD(1, 0.25, order="published"), PROBLEM, 40, every=1)
    assert difference(found.centers[:40], np.mean(found.points, axis=0)) < EQUAL


def test_without_gradients_the_exchange_conserves_the_center_plus_all_replicas() -> None:
    apart = ls.SGD(lambda step: RATE if step < 6 else 0.0)  # replicas part, then only the exchange acts
    sums = []
    for steps in (6, 12, 40):
        found = trace(ls.SyncEASGD(3, 0.2), PROBLEM, steps, optimizer=apart)
        sums.append(found.center + found.replicas.sum(axis=0))
    assert difference(sums[0], sums[1]) < EQUAL
    assert difference(sums[0], sums[2]) < EQUAL


def alpha_limit(workers: int, eta_h: float) -> float:
    return (4 - 2 * eta_h) / (workers * (2 - eta_h) + 2)


def test_the_limits_on_alpha_are_those_published() -> None:
    assert alpha_limit(4, 0.5) == pytest.approx(0.375)
    assert alpha_limit(16, 0.1) == pytest.approx(0.1173, abs=5e-5)


@pytest.mark.parametrize(("workers", "eta_h"), [(1, 0.5), (2, 1.2), (4, 0.5), (16, 0.1)])
def test_it_is_stable_up_to_the_limit_on_alpha(workers: int, eta_h: float) -> None:
    inside, outside = (
        late_growth(alpha * alpha_limit(workers, eta_h), None, workers, eta_h) for alpha in (0.98, 1.02)
    )
    assert inside < 0.8
    assert outside > 1.25


@pytest.mark.parametrize(("alpha", "eta_h"), [(0.1, 0.5), (0.3, 1.0), (0.05, 1.9)])
def test_it_is_stable_up_to_the_limit_on_beta(alpha: float, eta_h: float) -> None:
    limit = (4 - 2 * (eta_h + alpha)) / (2 - eta_h)
    assert late_growth(alpha, 0.98 * limit, 4, eta_h) < 0.8
    assert late_growth(alpha, 1.02 * limit, 4, eta_h) > 1.25


def late_growth(alpha: float, beta: float | None, workers: int, eta_h: float) -> float:
    strategy = ls.SyncEASGD(1, alpha, center_rate=beta, order="published")
    problem = homogeneous(np.array([eta_h]), workers)
    found = trace(strategy, problem, 400, optimizer=ls.SGD(1.0))
    return float(growth(found.points[0])[0])


def test_with_a_center_at_rest_it_is_stable_up_to_eta_h_plus_alpha_2() -> None:
    strategy = ls.SyncEASGD(1, 0.4, center_rate=0.0, order="published")
    problem = homogeneous(around(2.0) - 0.4, 3)
    path = trace(strategy, problem, 240, optimizer=ls.SGD(1.0)).points[0]
    assert changes_sides(np.diff(path, axis=0))


def test_the_order_after_is_stable_where_the_published_one_is_not() -> None:
    problem = homogeneous(np.array([1.0]), 1)
    for order, least, most in (("published", 1.25, 1e9), ("after", 0.0, 0.8)):
        strategy = ls.SyncEASGD(1, 0.9, order=order)
        found = trace(strategy, problem, 60, optimizer=ls.SGD(1.0), every=1)
        early, late = np.abs(found.centers[10]), np.abs(found.centers[50])
        assert least * early <= late <= most * max(early, 1e-300)
