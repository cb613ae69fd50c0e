"""What the page on gossip expects of replicas is what a recursion in numpy shows."""

from __future__ import annotations

import numpy as np
import pytest
from bench.papers.studies.gossip import expected, power

import loosestep as ls


@pytest.mark.parametrize("mu", [0.0, 0.8])
def test_the_expected_spread_is_that_of_the_recursion(mu: float) -> None:
    random, size, rate = np.random.default_rng(0), 4000, 0.1
    matrix = ls.Ring().matrix(5)
    steady = random.normal(size=(5, size))
    x, v = np.zeros((5, size)), np.zeros((5, size))
    for _ in range(150):
        g = steady + random.normal(size=(5, size))
        v = mu * v - rate * g
        x = matrix @ x + mu * v - rate * g
    measured = power(x - x.mean(axis=0)) ** 0.5
    assert expected(matrix, rate, mu, steady, size, 0.0) == pytest.approx(measured, rel=0.02)
    assert expected(matrix, rate, mu, 0 * steady, size, 0.0) < 0.9 * measured
    assert expected(matrix, rate, mu, steady, 0.0, 0.0) < 0.99 * measured
