"""Recursions written from the papers' formulas for workers of unequal speed or unequal batches, in numpy alone."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
import pytest
from tests.papers.problems import EQUAL, RATE, Array, difference, quadratics, trace

import loosestep as ls
from loosestep.stragglers import Stragglers

PROBLEM = quadratics()


@dataclass(frozen=True, repr=False)
class Given(Stragglers):
    """Every step of worker i takes `seconds[i]`: who meets the center before whom is known."""

    seconds: tuple[float, ...] = (1.0, 1.31, 1.73, 2.17)

    def durations(self, rank: int, step_time: float, count: int, rng: np.random.Generator) -> Array:
        return np.full(count, self.seconds[rank])


def unequal(latency: float = 0.0) -> ls.Simulated:
    return ls.Simulated(4, step_time=1.0, latency=latency, bandwidth=inf, stragglers=Given())


# --- EASGD: algorithms 1 and 2, whose center moves before the gradient is taken ------------------------------


def algorithm_2(period: int, moving: float, mu: float, steps: int, latency: float) -> tuple[Array, Array]:
    """Events in time: a step begins and asks for c; c is read one latency later, and moved two after that."""
    y, v, c = PROBLEM.starts(), np.zeros((4, 5)), PROBLEM.start.copy()
    events, taken, d = [], [0] * 4, np.zeros((4, 5))
    for i, seconds in enumerate(Given().seconds):
        times = np.cumsum([0.0, *[seconds] * (steps - 1)])
        for k, time in enumerate(times):
            events.append((time, 1, i, "begin"))
            if k % period == 0:
                events += [(time + latency, 2, i, "read"), (time + 3 * latency, 3, i, "move")]
    for *_, i, what in sorted(events, key=lambda event: (event[0], event[2], event[1])):
        if what == "begin" and taken[i]:  # the step that ends
            g = PROBLEM.gradient(y[i], i)
            y[i], v[i] = y[i] - RATE * g + mu * (mu * v[i] - RATE * g) - d[i], mu * v[i] - RATE * g
            d[i] = 0
        elif what == "read":
            d[i] = moving * (y[i] - c)
        elif what == "move":
            c = c + d[i]
        taken[i] += what == "begin"
    for i in range(4):
        g = PROBLEM.gradient(y[i], i)
        y[i] = y[i] - RATE * g + mu * (mu * v[i] - RATE * g) - d[i]
    return y, c


@pytest.mark.parametrize("latency", [0.0, 0.07])
@pytest.mark.parametrize("mu", [0.0, 0.8])
@pytest.mark.parametrize("period", [1, 3, 7])
def test_easgds_published_order_meets_the_center_before_the_gradient(
    period: int, mu: float, latency: float
) -> None:
    optimizer = ls.Nesterov(RATE, mu)
    strategy = ls.EASGD(period, 0.2, order="published")
    found = trace(strategy, PROBLEM, 96, on=unequal(latency), optimizer=optimizer)
    replicas, center = algorithm_2(period, 0.2, mu, 96, latency)
    assert difference(found.replicas, replicas) < EQUAL
    assert difference(found.center, center) < EQUAL
    assert [worker.waiting for worker in found.result.workers] == [0.0] * 4, "the links are busy beside gradients"
    assert found.result.seconds == pytest.approx(96 * 2.17)
