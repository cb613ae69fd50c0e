"""MDOWNPOUR: Nesterov's momentum at the center, on the steps of all workers as they come."""

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
    trace,
)

import loosestep as ls

PROBLEM = quadratics()


@pytest.mark.parametrize("mu", [0.0, 0.5, 0.9])
def test_the_center_follows_the_recursion(mu: float) -> None:
    """The master on gradient g: v <- mu v - eta g, y <- y - eta g + mu v; workers one after the other."""
    rate = 0.02
    y, v, pulled = PROBLEM.start, np.zeros(5), list(PROBLEM.starts())
    for _ in range(30):
        for i in range(4):
            g = PROBLEM.gradient(pulled[i], i)
            v = mu * v - rate * g
            pulled[i] = y = y - rate * g + mu * v
    found = trace(ls.MomentumDownpour(mu, 1.0), PROBLEM, 30, optimizer=ls.SGD(rate))
    assert difference(found.center, y) < EQUAL


@pytest.mark.parametrize("mu", [0.9, 0.99])
def test_one_worker_is_msgd_at_its_look_ahead_points(mu: float) -> None:
    alone = quadratics(1)
    found = trace(ls.MomentumDownpour(mu, 1.0), alone, 40, on=ls.Serial())
    expected = look_ahead(lambda x: alone.gradient(x, 0), alone.start, 40, RATE, mu)
    assert difference(found.points[0], expected[:-1]) < EQUAL * np.abs(expected).max()


def test_it_is_nesterovs_recursion_on_single_gradients_in_the_order_of_arrival() -> None:
    """b <- mu b + g, y <- y - eta (g + mu b), as PyTorch writes it: v = -eta b."""
    mu, rate = 0.7, 0.05
    y, b, pulled = PROBLEM.start, np.zeros(5), list(PROBLEM.starts())
    for _ in range(20):
        for i in range(4):
            g = PROBLEM.gradient(pulled[i], i)
            b = mu * b + g
            pulled[i] = y = y - rate * (g + mu * b)
    found = trace(ls.MomentumDownpour(mu, 1.0), PROBLEM, 20, optimizer=ls.SGD(rate))
    assert difference(found.center, y) < EQUAL


@pytest.mark.parametrize("mu", [0.5, 0.9, 0.99])
def test_alone_it_is_stable_up_to_nesterovs_limit(mu: float) -> None:
    problem = homogeneous(around(2 * (1 + mu) / (1 + 2 * mu)), 1)
    found = trace(ls.MomentumDownpour(mu, 1.0), problem, 400, on=ls.Serial(), optimizer=ls.SGD(1.0))
    assert changes_sides(found.points[0])
