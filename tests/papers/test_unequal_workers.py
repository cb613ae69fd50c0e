"""Recursions written from the papers' formulas for workers of unequal speed or unequal batches, in numpy alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.contract.test_resuming import CRASHES, check_crashes
from tests.papers.problems import EQUAL, RATE, Array, difference, quadratics, trace

import loosestep as ls
from loosestep.transports.simulated.stragglers import Stragglers

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


# --- SlowMo: algorithm 1, under a schedule and with batches of unequal size ----------------------------------


SAMPLES = (1, 2, 3, 10)


def unequal_batches(rank: int, size: int) -> Iterator[Array]:
    """Rows of one value, so that only their number counts."""
    return repeat(np.full(SAMPLES[rank], float(rank)))


def unequal_run(strategy: ls.Strategy, steps: int, **options: Any) -> tuple[ls.Result, Array]:
    """(the result, the consensus after every step)."""
    seen: list[Array] = []

    def evaluate(x: Array) -> float:
        seen.append(x.copy())
        return 0.0

    def gradient(x: Array, rows: Array) -> Array:
        return PROBLEM.gradient(x, int(rows[0]))

    on = unequal(0.07)
    result = ls.run(
        strategy,
        gradient,
        PROBLEM.start,
        unequal_batches,
        steps=steps,
        on=on,
        evaluate=evaluate,
        every=1,
        **options,
    )
    return result, np.array(seen)


@pytest.mark.parametrize("reset", ["reset", "keep"])
@pytest.mark.parametrize(("beta", "alpha"), [(0.6, 1.0), (0.8, 0.7)])
def test_slowmo_follows_the_schedule_of_its_optimizer(beta: float, alpha: float, reset: Any) -> None:
    rate = ls.schedules.Warmup(ls.schedules.Cosine(RATE, 50, end=0.01), 13, start=0.02)
    x0, u, v = PROBLEM.start, np.zeros(5), np.zeros((4, 5))
    for t in range(15):
        x, first = np.tile(x0, (4, 1)), rate(4 * t)
        for k in range(4 * t, 4 * t + 4):
            v = v * 0.7 * (rate(k) / rate(max(k - 1, 0))) - rate(k) * PROBLEM.gradients(x)
            x = x + v
        u = beta * u + (x0 - np.average(x, axis=0, weights=SAMPLES)) / first
        x0 = x0 - alpha * first * u
        v = 0 * v if reset == "reset" else v
    strategy = ls.SlowMo(4, beta, alpha, momentum=reset)
    result, _ = unequal_run(strategy, 60, optimizer=ls.Momentum(rate, 0.7))
    assert difference(result.params, x0) < EQUAL


@pytest.mark.parametrize("pull", [0.6, 1.0])
def test_the_anchor_momentum_of_overlap_local_sgd_follows_the_schedule(pull: float) -> None:
    rate, gmf = ls.schedules.StepDecay(RATE, at=(7, 21), factor=0.3), 0.7
    x, z, b = PROBLEM.starts(), np.tile(PROBLEM.start, (4, 1)), np.zeros((4, 5))
    for t in range(12):
        for k in range(3 * t, 3 * t + 3):
            x = x - rate(k) * PROBLEM.gradients(x)
        x = x + (pull if t else 0.0) * (z - x)
        b = gmf * b + (z - x) / rate(3 * t)
        z = np.tile(np.average(z - rate(3 * t) * b, axis=0, weights=SAMPLES), (4, 1))
    strategy = ls.OverlapLocalSGD(3, pull, anchor_momentum=gmf)
    result, _ = unequal_run(strategy, 36, optimizer=ls.SGD(rate))
    assert difference(np.array([worker.params for worker in result.workers]), x) < EQUAL


@pytest.mark.parametrize("strategy", [ls.SlowMo(5), ls.OverlapLocalSGD(5, anchor_momentum=0.7)], ids=repr)
def test_a_crash_inside_a_round_forgets_no_rate_that_it_began_with(strategy: ls.Strategy, tmp_path: Path) -> None:
    """The rate falls at every step, and a resumed round begins in its middle."""
    optimizer = ls.SGD(ls.schedules.Polynomial(RATE, 20))
    on = ls.Simulated(3, stragglers=ls.stragglers.LogNormal(0.5), latency=2e-4)
    check_crashes(strategy, on, tmp_path, CRASHES, seed=5, optimizer=optimizer)


# --- evaluations inside a round: weighted as the average that ends it ----------------------------------------


def local_rounds(steps_of: tuple[int, ...], period: int, count: int, momentum: float) -> Array:
    """The weighted mean of the replicas after every step; each round's mean moves on by block momentum."""
    weights = np.array(SAMPLES) * period  # by samples of a round, times period / steps
    c, d, means = PROBLEM.start, np.zeros(5), []
    for _ in range(count):
        x = np.tile(c, (4, 1))
        for k in range(period):
            moving = np.array([k < steps for steps in steps_of])[:, None]
            x = x - moving * RATE * PROBLEM.gradients(x)
            begun = np.minimum(k + 1, steps_of) / np.array(steps_of)  # whoever rests has used all of its samples
            means.append(np.average(x, axis=0, weights=weights * begun))
        d = momentum * d + means[-1] - c
        c = means[-1] = c + d
    return np.array(means)


@pytest.mark.parametrize(
    ("strategy", "steps_of", "momentum"),
    [
        (ls.LocalSGD(8), (8, 8, 8, 8), 0.0),
        (ls.LocalSGD(8, steps=(8, 4, 2, 8)), (8, 4, 2, 8), 0.0),
        (ls.BMUF(8, 0.5), (8, 8, 8, 8), 0.5),
        (ls.DiLoCo(8, 1.0, 0.0), (8, 8, 8, 8), 0.0),
        (ls.FedAvg(8), (8, 8, 8, 8), 0.0),
    ],
    ids=repr,
)
def test_an_evaluation_inside_a_round_is_weighted_as_its_end(
    strategy: ls.Strategy, steps_of: tuple[int, ...], momentum: float
) -> None:
    result, seen = unequal_run(strategy, 24, optimizer=ls.SGD(RATE))
    expected = local_rounds(steps_of, 8, 3, momentum)
    assert difference(seen, expected) < EQUAL
    assert all((worker.params == result.params).all() for worker in result.workers), "those that agree are exact"


def test_methods_that_count_workers_alike_are_evaluated_so() -> None:
    for strategy in (ls.OneShotAveraging(), ls.CDSGD(ls.Complete())):
        result, _ = unequal_run(strategy, 5, optimizer=ls.SGD(RATE))
        mean = np.mean([worker.params for worker in result.workers], axis=0)
        assert difference(result.params, mean) < EQUAL
