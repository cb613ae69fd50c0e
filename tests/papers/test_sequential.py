"""The sequential comparators: SGD, heavy ball, Nesterov; their rules, and where they cease to be stable."""

from __future__ import annotations

import numpy as np
import pytest
from tests.papers.problems import (
    EQUAL,
    RATE,
    around,
    changes_sides,
    difference,
    homogeneous,
    look_ahead,
    quadratics,
    sgd,
    trace,
)

import loosestep as ls

ALONE = quadratics(1)
S_SGD = ls.AllReduceSGD()


def test_sgd_follows_its_rule() -> None:
    found = trace(S_SGD, ALONE, 40, on=ls.Serial())
    expected = sgd(ALONE, 0, 40)
    assert difference(found.points[0], expected[:-1]) < EQUAL
    assert difference(found.center, expected[-1]) < EQUAL


def test_nesterov_keeps_the_look_ahead_points_of_msgd() -> None:
    found = trace(S_SGD, ALONE, 40, on=ls.Serial(), optimizer=ls.Nesterov(RATE, 0.9))
    expected = look_ahead(lambda x: ALONE.gradient(x, 0), ALONE.start, 40, RATE, 0.9)
    assert difference(found.points[0], expected[:-1]) < EQUAL
    assert difference(found.center, expected[-1]) < EQUAL


def test_nesterov_equals_the_two_step_form_of_the_release() -> None:
    x, v = ALONE.start.copy(), np.zeros_like(ALONE.start)
    points = []
    for _ in range(40):  # v *= mu; x += v; g = grad(x); x -= eta g; v -= eta g
        v = 0.9 * v
        x = x + v
        points.append(x)
        g = ALONE.gradient(x, 0)
        x, v = x - RATE * g, v - RATE * g
    found = trace(S_SGD, ALONE, 40, on=ls.Serial(), optimizer=ls.Nesterov(RATE, 0.9))
    assert difference(found.points[0], np.array(points)) < EQUAL


def test_heavy_ball_follows_its_rule() -> None:
    x, v = ALONE.start.copy(), np.zeros_like(ALONE.start)
    for _ in range(40):
        v = 0.9 * v - RATE * ALONE.gradient(x, 0)
        x = x + v
    found = trace(S_SGD, ALONE, 40, on=ls.Serial(), optimizer=ls.Momentum(RATE, 0.9))
    assert difference(found.center, x) < EQUAL


def test_a_rate_by_step_is_the_rate_of_that_step() -> None:
    x = ALONE.start.copy()
    for epoch in range(4):  # the backoff of Hogwild: gamma decay^epoch
        for _ in range(5):
            x = x - RATE * 0.8**epoch * ALONE.gradient(x, 0)
    backoff = ls.SGD(lambda step: RATE * 0.8 ** (step // 5))
    assert difference(trace(S_SGD, ALONE, 20, on=ls.Serial(), optimizer=backoff).center, x) < EQUAL


def nesterov_limit(mu: float) -> float:
    return 2 * (1 + mu) / (1 + 2 * mu)


BOUNDARIES = [
    (ls.SGD(1.0), 2.0),
    (ls.Momentum(1.0, 0.5), 2 * (1 + 0.5)),
    (ls.Momentum(1.0, 0.9), 2 * (1 + 0.9)),
    (ls.Nesterov(1.0, 0.5), nesterov_limit(0.5)),
    (ls.Nesterov(1.0, 0.9), nesterov_limit(0.9)),
    (ls.Nesterov(1.0, 0.99), nesterov_limit(0.99)),
]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(("optimizer", "limit"), BOUNDARIES, ids=lambda value: str(value))
def test_the_optimizer_is_stable_up_to_its_closed_form_limit(
    optimizer: ls.SGD, limit: float, workers: int
) -> None:
    found = trace(S_SGD, homogeneous(around(limit), workers), 240, optimizer=optimizer)
    assert changes_sides(found.points[0])


def test_the_nesterov_limits_are_those_published() -> None:
    assert nesterov_limit(0.9) == pytest.approx(1.357, abs=5e-4)
    assert nesterov_limit(0.99) == pytest.approx(1.3356, abs=5e-5)
