"""Entropy-SGD: its recursion with all options, its limits, its noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.papers.problems import (
    EQUAL,
    RATE,
    Array,
    Quadratics,
    difference,
    homogeneous,
    in_turn,
    quadratics,
    trace,
)

import loosestep as ls

PROBLEM, ONE = quadratics(), quadratics(1)
TRANSPORTS = [in_turn(4), ls.Threads(4)]


def entropy(problem: Quadratics, strategy: ls.EntropySGD, steps: int) -> tuple[Array, Array]:
    """Where the mean gradient is taken, a row a step, and the anchor at the end."""
    x = problem.start
    y, z, u, points = x, x, np.zeros_like(x), []
    cycle = strategy.inner + (strategy.rho > 0)
    for step in range(steps):
        last = step % cycle == cycle - 1
        points.append(y)
        g = problem.gradients(np.tile(y, (problem.workers, 1))).mean(axis=0)
        plain = np.zeros_like(x)
        if strategy.rho and last:
            plain = strategy.rho * g
        else:
            y = y - RATE * (g + strategy.pull * (y - x))
            z = strategy.averaging * z + (1 - strategy.averaging) * y
        if strategy.rho and step % cycle == cycle - 2:
            y = x
        if last:
            move = plain + (x - z)
            u = strategy.momentum * u + move
            x = x - strategy.rate * (move + strategy.momentum * u)
            y = z = x
    return np.array(points), x


@pytest.mark.parametrize("on", TRANSPORTS, ids=repr)
@pytest.mark.parametrize("rho", [0.0, 0.7])
@pytest.mark.parametrize("inner", [1, 4])
def test_it_follows_the_recursion(on: Any, rho: float, inner: int) -> None:
    strategy = ls.EntropySGD(inner, pull=0.4, averaging=0.6, rate=0.3, momentum=0.5, rho=rho)
    found = trace(strategy, PROBLEM, 40, on=on)
    points, anchor = entropy(PROBLEM, strategy, 40)
    for own in found.points:
        assert difference(own, points) < EQUAL, "all workers stand at one point"
    assert difference(found.center, anchor) < EQUAL


def test_without_an_inner_loop_and_with_rho_1_it_is_sgd() -> None:
    """An inner rate of 0 is L = 0: every second gradient is taken at x, and x <- x - eta g(x)."""
    found = trace(ls.EntropySGD(1, rate=RATE, momentum=0.0, rho=1.0), PROBLEM, 40, optimizer=ls.SGD(0.0))
    x = PROBLEM.start
    for _ in range(20):
        x = x - RATE * PROBLEM.gradients(np.tile(x, (4, 1))).mean(axis=0)
    assert difference(found.center, x) < EQUAL


def test_an_infinite_pull_leaves_x_where_it_is() -> None:
    """With eta gamma = 1 a step lands at x - g / gamma: a thousand times the pull, a thousandth of the move."""
    moved = []
    for pull in (1e3, 1e6, 1e9):
        strategy = ls.EntropySGD(5, pull, averaging=0.0, rate=1.0, momentum=0.0)
        found = trace(strategy, ONE, 25, optimizer=ls.SGD(1 / pull))
        moved.append(np.abs(found.center - ONE.start).max())
    assert moved[1] == pytest.approx(1e-3 * moved[0], rel=0.02)
    assert moved[2] == pytest.approx(1e-3 * moved[1], rel=0.02)


@pytest.mark.parametrize("pull", [0.0, 0.01, 1.0, 3.0])
def test_the_minimum_of_a_quadratic_stays_the_fixed_point(pull: float) -> None:
    problem = homogeneous(np.array([0.3, 1.0]), 2)
    at_rest = Quadratics(problem.curvatures, problem.minima, np.zeros(2))
    assert not trace(ls.EntropySGD(5, pull), at_rest, 50).center.any(), "0 stays 0"
    assert np.abs(trace(ls.EntropySGD(5, pull), problem, 2000).center).max() < 1e-6


# --- noise -------------------------------------------------------------------------------------------------


def test_noise_of_zero_is_none_bit_for_bit() -> None:
    plain, silent = (trace(s, PROBLEM, 30) for s in (ls.EntropySGD(4), ls.EntropySGD(4, noise=0.0)))
    assert (plain.center == silent.center).all()


def test_the_same_noise_on_every_transport_and_another_with_another_seed() -> None:
    strategy = ls.EntropySGD(4, noise=0.05)
    virtual, threads = (trace(strategy, PROBLEM, 30, on=on) for on in TRANSPORTS)
    assert (virtual.center == threads.center).all()
    assert (np.ptp(virtual.replicas, axis=0) == 0).all(), "every worker adds the same"
    assert (virtual.center != trace(ls.EntropySGD(4), PROBLEM, 30).center).all()


def final(seed: int, noise: float, size: int = 20_000, steps: int = 8) -> Array:
    """y after some steps of an inner loop that does not end, from 0 on a quadratic of curvature 1."""
    strategy = ls.EntropySGD(1000, pull=0.0, noise=noise)
    batches = lambda rank, workers: iter([0.0] * steps)  # noqa: E731
    result = ls.run(strategy, lambda x, b: x, np.zeros(size), batches, optimizer=ls.SGD(RATE), seed=seed)
    return np.asarray(result.workers[0].params)


def test_noise_has_the_variance_it_says_and_is_independent_from_step_to_step() -> None:
    """y <- (1 - eta) y + s N: the variance is s^2 (1 - q^(2k)) / (1 - q^2) after k steps, q = 1 - eta."""
    q, noise = 1 - RATE, 0.1
    wanted = noise**2 * (1 - q**16) / (1 - q**2)
    found = final(3, noise)
    assert np.var(found) == pytest.approx(wanted, rel=5 * np.sqrt(2 / found.size))
    assert abs(found.mean()) < 5 * np.sqrt(wanted / found.size)
    assert (found == final(3, noise)).all(), "by the seed"
    assert (found != final(4, noise)).all()


def test_z_averages_what_the_noise_left() -> None:
    """One inner step, averaging 0, rate 1: x becomes y, noise and all."""
    strategy = ls.EntropySGD(1, pull=0.0, averaging=0.0, noise=0.1, rate=1.0, momentum=0.0)
    batches = lambda rank, workers: iter([0.0])  # noqa: E731
    result = ls.run(strategy, lambda x, b: x, np.zeros(5), batches, optimizer=ls.SGD(0.0))
    assert (np.abs(result.params) > 0).all()
    assert difference(result.params, result.workers[0].params) < EQUAL


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"averaging": 1.5}, "averaging must be at most 1, got 1.5"),
        ({"noise": -1.0}, "noise must be at least 0 and finite, got -1.0"),
        ({"pull": -0.1}, "pull must be at least 0 and finite, got -0.1"),
        ({"rho": float("nan")}, "rho must be at least 0 and finite, got nan"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ls.EntropySGD(**settings)
