"""Delay compensation: the paper's recursion on gradients, and where the correction is exact."""

from __future__ import annotations

import numpy as np
import pytest
from tests.papers.problems import EQUAL, RATE, Array, all_at_once, difference, quadratics, trace

import loosestep as ls
from loosestep import ops

PROBLEM = quadratics()


def compensated(rounds: int, lambda_: float, decay: float, epsilon: float) -> Array:
    """The server's rule on gradients, workers one after the other; a decay of 1 is a constant lambda."""
    w, square, backup = PROBLEM.start, np.zeros(5), list(PROBLEM.starts())
    for _ in range(rounds):
        for i in range(4):
            g = PROBLEM.gradient(backup[i], i)
            square = decay * square + (1 - decay) * g * g
            strength = lambda_ if decay == 1 else lambda_ / np.sqrt(square + epsilon)
            w = w - RATE / 4 * (g + strength * g * g * (w - backup[i]))
            backup[i] = w
    return w


def test_with_a_constant_lambda_it_follows_the_recursion_on_gradients() -> None:
    rate = RATE / 4
    found = trace(ls.DCASGD(0.4 / rate, decay=1.0), PROBLEM, 25, optimizer=ls.SGD(rate))
    assert difference(found.center, compensated(25, 0.4, 1.0, 0.0)) < EQUAL


def test_the_adaptive_form_follows_the_recursion_on_gradients() -> None:
    """Epsilon is that of squares of steps: of gradients it is larger by 1 / eta^2."""
    rate = RATE / 4
    found = trace(ls.DCASGD(0.3, decay=0.95), PROBLEM, 25, optimizer=ls.SGD(rate))
    assert difference(found.center, compensated(25, 0.3, 0.95, 1e-12 / rate**2)) < EQUAL


def test_it_differs_from_uncompensated_sgd() -> None:
    plain, ours = (trace(each, PROBLEM, 25).center for each in (ls.Downpour(1), ls.DCASGD(0.3)))
    assert difference(plain, ours) > 1e-4


@pytest.mark.parametrize("h", [0.2, 1.0, 3.0])
def test_where_lambda_g_g_is_the_curvature_a_late_gradient_is_a_fresh_one(h: float) -> None:
    """f = h x^2 / 2: with lambda g(b)^2 = h, g(b) + lambda g(b)^2 (c - b) = h c, whatever the delay."""
    rate, b, start = 0.1, np.array([2.0, -0.7, 1.3]), np.array([0.4, 1.9, -1.1])
    for place in range(3):
        c, step = start.copy(), -rate * h * b
        lambda_ = h / (h * b[place]) ** 2
        ops.compensate(c, b.copy(), np.ones(3), step, lambda_ / rate, 1.0, 0.0)
        assert c[place] == pytest.approx(start[place] - rate * h * start[place], abs=EQUAL)


def test_pushes_that_land_together_are_corrected_in_the_order_of_arrival() -> None:
    """All pull the center that their own push left, so only the later ones of a round are late."""
    found = trace(ls.DCASGD(0.0), PROBLEM, 12, on=all_at_once(4, 5), optimizer=ls.SGD(0.02))
    plain = PROBLEM.start
    pulled = list(PROBLEM.starts())
    for _ in range(12):
        for i in range(4):
            plain = plain - 0.02 * PROBLEM.gradient(pulled[i], i)
            pulled[i] = plain
    assert difference(found.center, plain) < EQUAL
