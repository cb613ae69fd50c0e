"""Parle: its recursion, the spring that moves no mean, when it is stable, what a round sends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.papers.problems import (
    EQUAL,
    RATE,
    Array,
    Quadratics,
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
LIMITS = {0.0: 2.0, 0.9: 2 * 1.9 / 2.8}  # of Nesterov's step on a unit quadratic, by momentum


def scoped(first: float, most: float, batches: int, step: int) -> float:
    """max(gamma_0 (1 - 1/(2B))^s, gamma_inf), inverted."""
    return 1 / max((1 - 1 / (2 * batches)) ** step / first, 1 / most)


def parle(
    problem: Quadratics, rounds: int, strategy: ls.Parle, mu: float = 0.0, scoping: tuple[Any, Any] = (None, None)
) -> tuple[Array, Array]:
    """Where gradients are taken, (n, steps, d), and the anchors after every round, (rounds, n, d).

    Both loops with Nesterov's momentum as u <- mu u + g, x <- x - eta (g + mu u).
    """
    x = problem.starts()
    inner, outer = np.zeros_like(x), np.zeros_like(x)
    points, anchors = [], []
    for step in range(rounds):
        pull = scoped(*scoping[0], step) if scoping[0] else strategy.pull
        coupling = scoped(*scoping[1], step) if scoping[1] else strategy.coupling
        y, z = x.copy(), x.copy()
        for _ in range(strategy.period):
            points.append(y)
            g = problem.gradients(y) + pull * (y - x)
            inner = mu * inner + g
            y = y - RATE * (g + mu * inner)
            z = strategy.averaging * z + (1 - strategy.averaging) * y
        master = (x if strategy.towards == "anchors" else z).mean(axis=0)
        g = (x - z) + coupling * (x - master)
        outer = strategy.momentum * outer + g
        x = x - strategy.rate * (g + strategy.momentum * outer)
        anchors.append(x)
    return np.stack(points, axis=1), np.array(anchors)


@pytest.mark.parametrize("on", TRANSPORTS, ids=repr)
@pytest.mark.parametrize("towards", ["anchors", "means"])
@pytest.mark.parametrize("mu", [0.0, 0.6])
def test_it_follows_the_recursion(on: Any, towards: Any, mu: float) -> None:
    strategy = ls.Parle(5, pull=0.4, averaging=0.6, rate=0.3, momentum=0.5, coupling=0.8, towards=towards)
    optimizer = ls.Nesterov(RATE, mu) if mu else ls.SGD(RATE)
    found = trace(strategy, PROBLEM, 40, on=on, optimizer=optimizer)
    points, anchors = parle(PROBLEM, 8, strategy, mu)
    assert difference(np.array(found.points), points) < EQUAL
    assert difference(found.replicas, anchors[-1]) < EQUAL, "the next round begins at the anchors"
    assert difference(found.center, anchors[-1].mean(axis=0)) < EQUAL


def test_pull_and_coupling_are_scoped_by_the_round() -> None:
    pull, coupling = (0.2, 0.5, 3), (0.5, 1.5, 2)
    strategy = ls.Parle(3, ls.Scoping(*pull), rate=0.3, momentum=0.5, coupling=ls.Scoping(*coupling))
    found = trace(strategy, PROBLEM, 36)
    points, _ = parle(PROBLEM, 12, strategy, scoping=(pull, coupling))
    assert difference(np.array(found.points), points) < EQUAL
    assert [strategy.coupling(step) for step in (0, 2, 100, 10**9)] == [0.5, 0.5 / 0.75**2, 1.5, 1.5]


def test_scoping_is_the_papers_schedule_inverted() -> None:
    for step in (0, 1, 17, 300, 5000):
        assert ls.Scoping(0.01, 1.0, 469)(step) == pytest.approx(scoped(0.01, 1.0, 469, step), rel=1e-14)


@pytest.mark.parametrize(("first", "most", "batches"), [(0.0, 1.0, 5), (-1.0, 1.0, 5), (2.0, 1.0, 5), (0.1, 1, 0)])
def test_a_scoping_that_cannot_be_is_refused(first: float, most: float, batches: int) -> None:
    with pytest.raises(ValueError, match=r"first must be (above 0|at most 1.0)|batches must be at least 1"):
        ls.Scoping(first, most, batches)


def test_independent_replicas_are_entropy_sgd_each() -> None:
    """1/rho = 0: worker i ends where Entropy-SGD alone on its data does."""
    together = trace(ls.Parle(4, rate=0.5, coupling=0.0), PROBLEM, 32)
    for rank in range(4):
        own = Quadratics(PROBLEM.curvatures[rank : rank + 1], PROBLEM.minima[rank : rank + 1], PROBLEM.start)
        single = trace(ls.EntropySGD(4, rate=0.5), own, 32)
        assert (together.replicas[rank] == single.center).all()


@pytest.mark.parametrize("coupling", [0.1, 0.5, 1.0])
def test_elastic_sgd_is_elastic_averaging_of_steps(coupling: float) -> None:
    """x_i <- (1 - a) x_i + a mean x - eta g(x_i)."""
    strategy = ls.Parle(1, pull=0.0, averaging=0.0, rate=1.0, momentum=0.0, coupling=coupling)
    x = PROBLEM.starts()
    for _ in range(30):
        x = (1 - coupling) * x + coupling * x.mean(axis=0) - RATE * PROBLEM.gradients(x)
    assert difference(trace(strategy, PROBLEM, 30).replicas, x) < EQUAL


# --- the spring alone: steps for a while, so that replicas are apart, then none -----------------------------

APART = 8


def spring(strategy: ls.Parle, steps: int) -> Array:
    """The anchors at the start of every round, (rounds, n, d), once local steps have ended."""
    optimizer = ls.SGD(lambda step: RATE if step < APART else 0.0)
    found = trace(strategy, PROBLEM, APART + steps, optimizer=optimizer)
    return np.stack(found.points, axis=1)[APART :: strategy.period]


@pytest.mark.parametrize("towards", ["anchors", "means"])
def test_the_spring_contracts_by_one_minus_its_strength_and_moves_no_mean(towards: Any) -> None:
    anchors = spring(ls.Parle(4, rate=0.2, momentum=0.0, coupling=1.5, towards=towards), 40)
    mean = anchors.mean(axis=1, keepdims=True)
    gaps = anchors - mean
    assert np.abs(gaps[0]).min() > 1e-3, "replicas are apart"
    assert difference(gaps[1:], (1 - 0.2 * 1.5) * gaps[:-1]) < EQUAL
    assert np.abs(mean - mean[0]).max() < 1e-15 * 40


@pytest.mark.parametrize("momentum", LIMITS)
def test_the_spring_is_stable_up_to_nesterovs_limit_and_says_so(momentum: float) -> None:
    limit = LIMITS[momentum]
    inside, outside = (
        ls.Parle(1, averaging=0.0, rate=1.0, momentum=momentum, coupling=c) for c in (0.98 * limit, 1.02 * limit)
    )
    assert (growth(np.ptp(spring(inside, 400), axis=1)) < 0.8).all()
    assert (growth(np.ptp(spring(outside, 400), axis=1)) > 1.25).all()
    assert inside.warnings(4) == outside.warnings(1) == []
    assert outside.warnings(4) == [
        f"rate times coupling, {1.02 * limit:g} at most, drives replicas apart at any local learning rate: with "
        f"momentum {momentum:g} it must be below 2 (1 + momentum) / (1 + 2 momentum) = {limit:.3g}"
    ]
    assert ls.Parle(coupling=ls.Scoping(1.0, 20.0)).warnings(2)
    assert not ls.Parle(coupling=ls.Scoping(1.0, 10.0)).warnings(2)


# --- smoothing on f = h x^2 / 2 ----------------------------------------------------------------------------


def moved(h: float, pull: float, averaging: float, period: int) -> float:
    """(x - z) / x after an inner loop: y settles at s x by powers of r, and z follows it."""
    settled, ratio = pull / (h + pull), 1 - RATE * (h + pull)
    z = 1.0
    for step in range(1, period + 1):
        z = averaging * z + (1 - averaging) * (settled + (1 - settled) * ratio**step)
    return 1 - z


@pytest.mark.parametrize("momentum", LIMITS)
@pytest.mark.parametrize(("pull", "averaging", "period"), [(0.0, 0.0, 3), (0.5, 0.75, 8), (2.0, 0.5, 1)])
def test_smoothing_is_stable_up_to_nesterovs_limit(
    momentum: float, pull: float, averaging: float, period: int
) -> None:
    h = 0.7
    limit = LIMITS[momentum] / moved(h, pull, averaging, period)
    problem = homogeneous(np.array([h]), 2)
    grown = []
    for rate in (0.98 * limit, 1.02 * limit):
        strategy = ls.Parle(period, pull, averaging, rate, momentum)
        found = trace(strategy, problem, 400 * period)
        grown.append(float(growth(found.points[0][::period])[0]))
    assert grown[0] < 0.8
    assert grown[1] > 1.25


@pytest.mark.parametrize("pull", [0.0, 0.01, 1.0, 3.0])
def test_the_minimum_of_a_quadratic_stays_the_fixed_point(pull: float) -> None:
    problem = homogeneous(np.array([0.3, 1.0]), 3)
    assert np.abs(trace(ls.Parle(5, pull), problem, 2000).center).max() < 1e-6


# --- bytes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("period", [1, 5, 25])
def test_it_sends_a_part_of_what_s_sgd_sends(period: int) -> None:
    parle_, plain = (trace(s, PROBLEM, 50).result for s in (ls.Parle(period), ls.AllReduceSGD()))
    assert parle_.bytes_sent * period == pytest.approx(plain.bytes_sent)


@pytest.mark.parametrize("strategy", [ls.Parle(4, rate=0.5), ls.EntropySGD(4, rate=0.5)], ids=str)
def test_the_outer_rate_drops_where_it_says(strategy: Any) -> None:
    """Up to the drop nothing changes; the outer step after it is a tenth of what it would be."""
    steady = replace(strategy, momentum=0.0, **({"coupling": 0.0} if isinstance(strategy, ls.Parle) else {}))
    dropping = replace(steady, rate=ls.schedules.StepDecay(0.5, at=(8,), factor=0.1))
    runs = [(steady, 8), (steady, 12), (dropping, 12)]
    start, fast, slow = (trace(each, PROBLEM, steps).center for each, steps in runs)
    assert (trace(dropping, PROBLEM, 8).center == start).all()
    assert difference(slow - start, 0.1 * (fast - start)) < EQUAL
    assert np.abs(fast - start).max() > 1e-3
