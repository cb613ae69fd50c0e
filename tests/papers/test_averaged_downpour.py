"""ADOWNPOUR and MVADOWNPOUR: the average of the center over time, which never feeds back."""

from __future__ import annotations

import numpy as np
import pytest
from tests.papers.problems import EQUAL, RATE, Array, difference, in_turn, quadratics, trace

import loosestep as ls

PROBLEM = quadratics()


def averages(period: int, rounds: int, weight: float) -> tuple[Array, Array]:
    """Worker after worker pushes and pulls: (z, every center from the start on)."""
    c, z, pulled, centers = PROBLEM.start, PROBLEM.start, list(PROBLEM.starts()), [PROBLEM.start]
    for _ in range(rounds):
        for i in range(PROBLEM.workers):
            x = pulled[i]
            for _ in range(period):
                x = x - RATE * PROBLEM.gradient(x, i)
            pulled[i] = c = c + (x - pulled[i])
            z = z + (weight or 1 / (len(centers) + 1)) * (c - z)
            centers.append(c)
    return z, np.array(centers)


@pytest.mark.parametrize("period", [1, 3])
@pytest.mark.parametrize("weight", [0.0, 0.001, 0.2])
def test_the_average_follows_its_recursion(period: int, weight: float) -> None:
    found = trace(ls.AveragedDownpour(period, weight), PROBLEM, 12 * period)
    assert difference(found.center, averages(period, 12, weight)[0]) < EQUAL


def test_without_a_weight_it_is_the_mean_of_the_start_and_of_all_centers() -> None:
    found = trace(ls.AveragedDownpour(2), PROBLEM, 24)
    assert difference(found.center, averages(2, 12, 0.0)[1].mean(axis=0)) < EQUAL


@pytest.mark.parametrize("on", [in_turn(4), ls.Simulated(4, stragglers=ls.stragglers.LogNormal(0.5))], ids=repr)
def test_it_never_feeds_back(on: ls.Simulated) -> None:
    averaged, plain = (trace(each, PROBLEM, 30, on=on) for each in (ls.AveragedDownpour(3), ls.Downpour(3)))
    assert (averaged.replicas == plain.replicas).all()
    assert difference(averaged.center, plain.center) > 1e-3


def test_threads_average_every_center_once() -> None:
    """Of pushes of ones, in whatever order, the centers are 0, 1, ... 80: their mean is 40."""
    ones = lambda x, batch: np.full_like(x, -1.0)  # noqa: E731
    batches = lambda rank, size: iter([0.0] * 20)  # noqa: E731
    on, rate = ls.Threads(4), ls.SGD(1.0)
    found = ls.run(ls.AveragedDownpour(), ones, np.zeros(5000), batches, optimizer=rate, on=on)
    assert difference(found.params, np.full(5000, 40.0)) < EQUAL * 80
