"""BMUF, SlowMo, DiLoCo: their recursions, what they have in common, and where an outer step is stable."""

from __future__ import annotations

from collections.abc import Callable, Iterator

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
    trace,
)

import loosestep as ls

PROBLEM, PERIOD, ROUNDS = quadratics(), 4, 20
TRANSPORTS = [in_turn(4), ls.Threads(4)]
Outer = Callable[[Array, Array], Array]  # (where all began, the mean of where they came) -> where all go on


def block(problem: Quadratics, start: Array, period: int = PERIOD) -> Array:
    """The mean of the replicas after local steps from a common start."""
    x = np.tile(start, (problem.workers, 1))
    for _ in range(period):
        x = x - RATE * problem.gradients(x)
    return np.asarray(x.mean(axis=0))


def rounds(problem: Quadratics, outer: Outer, count: int = ROUNDS, period: int = PERIOD) -> Array:
    """Where all begin each round, count + 1 rows."""
    path = [problem.start]
    for _ in range(count):
        path.append(outer(path[-1], block(problem, path[-1], period)))
    return np.array(path)


def classical(momentum: float, zeta: float) -> Outer:
    """BMUF, classical: D <- bm D + zeta G, w <- w + D, c <- w."""
    d = np.zeros_like(PROBLEM.start)

    def outer(c: Array, mean: Array) -> Array:
        nonlocal d
        d = momentum * d + zeta * (mean - c)
        return c + d

    return outer


def filtered(momentum: float, zeta: float) -> Outer:
    """BMUF, Nesterov: D <- bm D + zeta G, w <- w + D, c <- w + bm D, with G measured from c and w kept apart."""
    d, w = np.zeros_like(PROBLEM.start), PROBLEM.start.copy()

    def outer(c: Array, mean: Array) -> Array:
        nonlocal d, w
        d = momentum * d + zeta * (mean - c)
        w = w + d
        return np.asarray(w + momentum * d)

    return outer


def slow(beta: float, alpha: float, rates: Iterator[float]) -> Outer:
    """SlowMo: u <- beta u + (x - mean) / eta, x <- x - alpha eta u."""
    u = np.zeros_like(PROBLEM.start)

    def outer(c: Array, mean: Array) -> Array:
        nonlocal u
        eta = next(rates)
        u = beta * u + (c - mean) / eta
        return c - alpha * eta * u

    return outer


def torch_nesterov(rate: float, momentum: float) -> Outer:
    """DiLoCo: D = c - mean, buf <- mu buf + D, c <- c - lr (D + mu buf)."""
    buffer = np.zeros_like(PROBLEM.start)

    def outer(c: Array, mean: Array) -> Array:
        nonlocal buffer
        gradient = c - mean
        buffer = momentum * buffer + gradient
        return c - rate * (gradient + momentum * buffer)

    return outer


def forever(value: float) -> Iterator[float]:
    while True:
        yield value


CASES = {
    "BMUF": (ls.BMUF(PERIOD), lambda: classical(0.5, 1.0)),
    "BMUF with numbers": (ls.BMUF(PERIOD, 0.6, 0.7), lambda: classical(0.6, 0.7)),
    "BMUF, Nesterov": (ls.BMUF(PERIOD, 0.6, 0.7, form="nesterov"), lambda: filtered(0.6, 0.7)),
    "SlowMo": (ls.SlowMo(PERIOD, 0.6, 0.7), lambda: slow(0.6, 0.7, forever(RATE))),
    "DiLoCo": (ls.DiLoCo(PERIOD, 0.7, 0.9), lambda: torch_nesterov(0.7, 0.9)),
}


@pytest.mark.parametrize("on", TRANSPORTS, ids=repr)
@pytest.mark.parametrize(("strategy", "outer"), CASES.values(), ids=CASES.keys())
def test_it_follows_its_recursion(strategy: ls.Strategy, outer: Callable[[], Outer], on: ls.Threads) -> None:
    found = trace(strategy, PROBLEM, PERIOD * ROUNDS, on=on)
    expected = rounds(PROBLEM, outer())
    for points in found.points:
        assert difference(points[::PERIOD], expected[:-1]) < EQUAL
    assert (found.replicas == found.center).all(), "the same bits on every worker after an outer step"
    assert difference(found.center, expected[-1]) < EQUAL


@pytest.mark.parametrize(("rate", "momentum"), [(1.0, 0.5), (0.7, 0.6)])
def test_the_look_ahead_points_of_nesterov_bmuf_are_diloco(rate: float, momentum: float) -> None:
    one = trace(ls.BMUF(PERIOD, momentum, rate, form="nesterov"), PROBLEM, 80)
    other = trace(ls.DiLoCo(PERIOD, rate, momentum), PROBLEM, 80)
    assert difference(np.array(one.points), np.array(other.points)) == 0
    assert (
        difference(rounds(PROBLEM, filtered(momentum, rate)), rounds(PROBLEM, torch_nesterov(rate, momentum)))
        < 1e-14
    )


@pytest.mark.parametrize(("rate", "momentum"), [(1.0, 0.5), (0.7, 0.6)])
def test_slowmo_is_classical_bmuf(rate: float, momentum: float) -> None:
    one = trace(ls.SlowMo(PERIOD, momentum, rate), PROBLEM, 80)
    other = trace(ls.BMUF(PERIOD, momentum, rate), PROBLEM, 80)
    assert difference(np.array(one.points), np.array(other.points)) == 0


def test_slowmo_is_invariant_to_the_schedule_of_the_learning_rate() -> None:
    """u is in units of gradients: where the rate falls tenfold, so does what u moves."""

    def rate(step: int) -> float:
        return RATE if step < 40 else RATE / 10

    x, u = PROBLEM.start, np.zeros_like(PROBLEM.start)
    for number in range(ROUNDS):
        eta = rate(number * PERIOD)
        replicas = np.tile(x, (4, 1))
        for _ in range(PERIOD):
            replicas = replicas - eta * PROBLEM.gradients(replicas)
        u = 0.6 * u + (x - replicas.mean(axis=0)) / eta
        x = x - 0.8 * eta * u
    for told in (None, rate, lambda step: 7 * rate(step)):
        strategy = ls.SlowMo(PERIOD, 0.6, 0.8, rate=told)
        found = trace(strategy, PROBLEM, PERIOD * ROUNDS, optimizer=ls.SGD(rate))
        assert difference(found.center, x) < EQUAL, "of the optimizer by default; only ratios count"
    constant = trace(ls.SlowMo(PERIOD, 0.6, rate=1.0), PROBLEM, PERIOD * ROUNDS, optimizer=ls.SGD(rate))
    bmuf = trace(ls.BMUF(PERIOD, 0.6), PROBLEM, PERIOD * ROUNDS, optimizer=ls.SGD(rate))
    assert (constant.center == bmuf.center).all()
    assert difference(constant.center, x) > 1e-3


@pytest.mark.parametrize("momentum", ["reset", "keep", "average"])
def test_slowmo_resets_keeps_or_averages_fast_momentum(momentum: str) -> None:
    x, v = PROBLEM.starts(), np.zeros((4, 5))
    anchor, slow_moved = PROBLEM.start, np.zeros(5)
    for step in range(1, 41):
        v = 0.7 * v - RATE * PROBLEM.gradients(x)
        x = x + v
        if step % PERIOD == 0:
            slow_moved = 0.5 * slow_moved + (anchor - x.mean(axis=0))
            anchor = anchor - slow_moved
            x = np.tile(anchor, (4, 1))
            v = {"reset": np.zeros_like(v), "keep": v, "average": np.tile(v.mean(axis=0), (4, 1))}[momentum]
    strategy = ls.SlowMo(PERIOD, 0.5, momentum=momentum)
    found = trace(strategy, PROBLEM, 40, optimizer=ls.Momentum(RATE, 0.7))
    assert difference(found.center, anchor) < EQUAL


def test_slowmo_alone_without_slow_momentum_is_lookahead() -> None:
    """Slow weights go half of the way that the fast ones went."""
    alone = quadratics(1)
    found = trace(ls.SlowMo(PERIOD, 0.0, 0.5), alone, 40)
    expected = rounds(alone, lambda c, mean: c + 0.5 * (mean - c), 10)
    assert difference(found.center, expected[-1]) < EQUAL


def limits(eta: float = 0.1) -> list[tuple[str, ls.Strategy, float]]:
    """The curvature 1 - q of the outer problem is within, and beyond, what the outer optimizer can take."""
    return [
        ("without momentum", ls.DiLoCo(4, 2.5, 0.0), 2.0),
        ("heavy ball", ls.BMUF(4, 0.6, 4.0), 2 * 1.6),
        ("slow momentum", ls.SlowMo(4, 0.6, 4.0), 2 * 1.6),
        ("Nesterov", ls.DiLoCo(4, 2.5, 0.9), 2 * 1.9 / 2.8),
        ("Nesterov BMUF", ls.BMUF(4, 0.9, 2.5, form="nesterov"), 2 * 1.9 / 2.8),
    ]


@pytest.mark.parametrize(("name", "strategy", "limit"), limits(), ids=lambda value: str(value))
def test_an_outer_step_is_stable_up_to_its_limit(name: str, strategy: ls.Strategy, limit: float) -> None:
    """rate (1 - q) < limit, q = (1 - eta h)^period."""
    rate = getattr(strategy, "slow_rate", None) or strategy.rate  # type: ignore[attr-defined]
    passed = around(limit) / rate  # 1 - q
    curvatures = (1 - (1 - passed) ** (1 / 4)) / 0.1
    problem = homogeneous(curvatures, 3)
    found = trace(strategy, problem, 4 * 400, optimizer=ls.SGD(0.1))
    assert changes_sides(found.points[0][::4])
