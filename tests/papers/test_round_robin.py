"""Elastic averaging and ADMM in turn: their recursions, and that one is stable where the other is not."""

from __future__ import annotations

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
    falls,
    homogeneous,
    in_turn,
    quadratics,
    trace,
)

import loosestep as ls

PROBLEM = quadratics()
TRANSPORTS = [in_turn(4), ls.Simulated(4, stragglers=ls.stragglers.LogNormal(1.0)), ls.Threads(4)]


def easgd(problem: Quadratics, alpha: float, rounds: int, rate: float) -> tuple[Array, Array]:
    """Worker t mod N acts, from the old values: (x, every center after a round)."""
    x, c, path = problem.starts(), problem.start, []
    for _ in range(rounds):
        for i in range(problem.workers):
            d = alpha * (x[i] - c)
            x[i], c = x[i] - rate * problem.gradient(x[i], i) - d, c + d
        path.append(c)
    return x, np.array(path)


def admm(problem: Quadratics, alpha: float, rounds: int, rate: float) -> tuple[Array, Array]:
    """With a multiplier at every worker; alpha = eta rho."""
    x, c, multiplier, path = problem.starts(), problem.start, np.zeros_like(problem.starts()), []
    for _ in range(rounds):
        for i in range(problem.workers):
            multiplier[i] = multiplier[i] - (x[i] - c)
            step = x[i] - rate * problem.gradient(x[i], i)
            x[i] = (step + alpha * (multiplier[i] + c)) / (1 + alpha)
            c = (x - multiplier).mean(axis=0)
        path.append(c)
    return x, np.array(path)


@pytest.mark.parametrize("on", TRANSPORTS, ids=repr)
def test_elastic_averaging_follows_the_recursion_on_every_transport(on: ls.Threads) -> None:
    """It waits for its turn, so nothing depends on who is fast."""
    found = trace(ls.RoundRobinEASGD(0.3), PROBLEM, 40, on=on)
    x, centers = easgd(PROBLEM, 0.3, 40, RATE)
    assert difference(found.replicas, x) < EQUAL
    assert difference(found.center, centers[-1]) < EQUAL


@pytest.mark.parametrize("on", TRANSPORTS, ids=repr)
def test_admm_follows_the_recursion_on_every_transport(on: ls.Threads) -> None:
    found = trace(ls.RoundRobinADMM(0.3), PROBLEM, 40, on=on)
    x, centers = admm(PROBLEM, 0.3, 40, RATE)
    assert difference(found.replicas, x) < EQUAL
    assert difference(found.center, centers[-1]) < EQUAL


def test_exchanges_conserve_the_center_plus_all_replicas() -> None:
    found = trace(ls.RoundRobinEASGD(0.4), PROBLEM, 50)
    steps = sum(RATE * PROBLEM.gradient(x, rank) for rank in range(4) for x in found.points[rank])
    assert difference(found.center + found.replicas.sum(axis=0), 5 * PROBLEM.start - steps) < EQUAL


# --- stability -----------------------------------------------------------------------------------------------


def alpha_limit(eta_h: float) -> float:
    return (4 - 2 * eta_h) / (4 - eta_h)


@pytest.mark.parametrize("workers", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("eta_h", [0.1, 1.0, 1.7])
def test_inside_the_published_region_elastic_averaging_is_stable(workers: int, eta_h: float) -> None:
    strategy = ls.RoundRobinEASGD(0.98 * alpha_limit(eta_h))
    problem = homogeneous(np.linspace(0.05, eta_h, 4), workers)
    assert falls(trace(strategy, problem, 400, optimizer=ls.SGD(1.0), every=1).centers)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_alone_it_is_unstable_just_outside(alpha: float) -> None:
    problem = homogeneous(around(4 * (1 - alpha) / (2 - alpha)), 1)
    found = trace(ls.RoundRobinEASGD(alpha), problem, 400, on=ls.Serial(), optimizer=ls.SGD(1.0))
    assert changes_sides(found.points[0])


def a_round(workers: int, rate: float, rho: float) -> Array:
    """One whole round of ADMM on a quadratic of curvature 1, as a map of all x and multipliers."""
    columns = []
    for unit in np.eye(2 * workers):
        x, multiplier = unit[:workers].copy(), unit[workers:].copy()
        for i in range(workers):
            c = (x - multiplier).mean()
            multiplier[i] -= x[i] - c
            x[i] = (x[i] - rate * x[i] + rate * rho * (multiplier[i] + c)) / (1 + rate * rho)
        columns.append([*x, *multiplier])
    return np.array(columns).T


def radius(workers: int, rate: float, rho: float) -> float:
    return float(np.abs(np.linalg.eigvals(a_round(workers, rate, rho))).max())


def test_the_radii_are_those_published() -> None:
    assert radius(3, 1e-3, 2.5) == pytest.approx(1.000974, abs=1e-6)
    assert radius(8, 1e-3, 2.5) == pytest.approx(1.002258, abs=1e-6)
    assert radius(3, 5e-3, 2.5) < 1
    assert max(radius(2, rate, rho) for rate in (1e-4, 1e-3, 1e-2) for rho in (0.1, 2.5, 10.0)) < 1


START = Quadratics(np.ones((3, 1)), np.zeros((3, 1)), np.array([1000.0]))


def test_admm_of_3_workers_falls_then_swings_ever_wider() -> None:
    """eta = 1e-3, rho = 2.5, from 1000: a hundred thousand steps."""
    step, at, path = a_round(3, 1e-3, 2.5), np.array([1000.0] * 3 + [0.0] * 3), np.empty(33_333)
    for number in range(len(path)):
        at = step @ at
        path[number] = abs((at[:3] - at[3:]).mean())
    windows = path[: 33 * 1000].reshape(33, 1000).max(axis=1)
    assert 15 < windows.min() < 30
    assert path.max() > 1e11
    assert np.log(windows[-1] / windows[12]) / 20_000 == pytest.approx(np.log(1.000974), rel=0.01)


def test_the_library_is_that_recursion_and_elastic_averaging_converges_there() -> None:
    rounds, rate, alpha = 700, ls.SGD(1e-3), 2.5e-3
    unstable = trace(ls.RoundRobinADMM(alpha), START, rounds, optimizer=rate, every=100).center
    assert difference(unstable, admm(START, alpha, rounds, 1e-3)[1][-1]) < EQUAL * 1000
    stable = easgd(START, alpha, 20_000, 1e-3)[1][:, 0]
    assert difference(trace(ls.RoundRobinEASGD(alpha), START, rounds, optimizer=rate).center, stable[699:700]) < (
        EQUAL * 1000
    )
    assert (np.diff(stable) < 0).all(), "it falls in every round"
    assert 0 < stable[-1] < 1e-3
