"""Mini-batch least squares: the largest rate, the threshold of the batch, averages of iterates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.papers.problems import EQUAL, RATE, Array, difference, quadratics, trace

import loosestep as ls
from loosestep.optimizers.least_squares import batch_threshold, largest_rate

PROBLEM = quadratics(4)
DIMENSIONS = 20


def iterates(steps: int, mu: float = 0.0) -> Array:
    """x_1 ... x_steps of mini-batch SGD on the union."""
    x, path = PROBLEM.start.copy(), []
    for _ in range(steps):
        x = x - RATE * PROBLEM.gradients(np.tile(x, (4, 1))).mean(axis=0)
        path.append(x)
    return np.array(path)


@pytest.mark.parametrize("on", [ls.Threads(4), ls.Simulated(4)], ids=repr)
@pytest.mark.parametrize("start", [1, 11, 30])
def test_the_average_is_the_mean_of_the_stored_iterates(on: Any, start: int) -> None:
    """start 1: Polyak-Ruppert; start 30 of 30: the last iterate."""
    found = trace(ls.Averaged(start=start), PROBLEM, 30, on=on)
    assert difference(found.center, iterates(30)[start - 1 :].mean(axis=0)) < EQUAL
    assert difference(found.replicas[0], iterates(30)[-1]) < EQUAL, "never fed back"


def test_the_moving_mean_follows_its_recursion() -> None:
    z = PROBLEM.start.copy()
    for x in iterates(30):
        z = (1 - 0.1) * z + 0.1 * x
    assert difference(trace(ls.Averaged(rate=0.1), PROBLEM, 30).center, z) < EQUAL


def test_until_its_start_it_is_the_last_iterate() -> None:
    found = trace(ls.Averaged(start=20), PROBLEM, 12)
    assert (found.center == found.replicas[0]).all()
    assert (found.center == trace(ls.AllReduceSGD(), PROBLEM, 12).center).all()


def test_averages_of_local_sgd_are_of_the_ends_of_rounds() -> None:
    ends = np.array([trace(ls.LocalSGD(5), PROBLEM, steps).center for steps in range(5, 31, 5)])
    assert difference(trace(ls.Averaged(ls.LocalSGD(5)), PROBLEM, 30).center, ends.mean(axis=0)) < EQUAL


def test_strategies_whose_replicas_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"strategy must be one whose replicas agree .* got EASGD\(\)"):
        ls.Averaged(ls.EASGD())


def test_an_average_goes_on_after_a_checkpoint(tmp_path: Any) -> None:
    def run(steps: int, **options: Any) -> ls.Result:
        batches = lambda rank, size: iter([rank] * 40)  # noqa: E731
        strategy, on = ls.Averaged(start=7), ls.Simulated(4)
        return ls.run(strategy, PROBLEM.gradient, PROBLEM.start, batches, on=on, steps=steps, **options)

    run(18, checkpoint=tmp_path)
    assert (run(30, checkpoint=tmp_path, resume=True).params == run(30).params).all()


# --- the bound ------------------------------------------------------------------------------------------------


def gaussian(batch: int, rate: float, steps: int, noise: float = 0.0, seed: int = 0, start: int = 0) -> Array:
    """SGD on y = x . w, w = 0, with x ~ N(0, I): the error, or that of the tail average."""

    def batches(rank: int, size: int) -> Iterator[tuple[Array, Array]]:
        rng = np.random.default_rng(seed)
        for _ in range(steps):
            x = rng.normal(size=(batch, DIMENSIONS))
            yield x, noise * rng.normal(size=batch)

    def gradient(w: Array, pair: tuple[Array, Array]) -> Array:
        x, y = pair
        return x.T @ (x @ w - y) / batch

    result = ls.run(
        ls.Averaged(start=start) if start else ls.AllReduceSGD(),
        gradient,
        np.ones(DIMENSIONS),
        batches,
        optimizer=ls.SGD(rate),
    )
    return np.asarray(result.params)


RADIUS, NORM = DIMENSIONS + 2.0, 1.0  # of N(0, I): trace + 2 norm


@pytest.mark.parametrize("batch", [1, 4, 16, 64])
def test_below_the_largest_rate_it_is_stable(batch: int) -> None:
    rate = 0.9 * largest_rate(RADIUS, NORM, batch)
    assert np.linalg.norm(gaussian(batch, rate, 3000)) < 1e-3 * np.sqrt(DIMENSIONS)


@pytest.mark.parametrize(("batch", "times"), [(1, 1.5), (4, 2.5)])
def test_well_above_the_largest_rate_it_diverges(batch: int, times: float) -> None:
    """In the mean square at once; a single path, which is what is run here, only further above."""
    rate = times * largest_rate(RADIUS, NORM, batch)
    assert np.linalg.norm(gaussian(batch, rate, 200)) > 1e3


def second_moment(rate: float, batch: int) -> float:
    """By what E|w|^2 of N(0, I) grows in a step: 1 - 2 g + g^2 (d + 2 + b - 1) / b."""
    return 1 - 2 * rate + rate**2 * (DIMENSIONS + 2 + batch - 1) / batch


@pytest.mark.parametrize("batch", [1, 4, 32])
def test_for_isotropic_gaussians_the_bound_is_where_the_second_moment_turns(batch: int) -> None:
    largest = largest_rate(RADIUS, NORM, batch)
    assert second_moment(0.98 * largest, batch) < 1 < second_moment(1.02 * largest, batch)
    assert second_moment(largest, batch) == pytest.approx(1.0, rel=1e-14)


def test_the_formulas() -> None:
    assert largest_rate(22.0, 2.0) == 2 / 22
    assert largest_rate(22.0, 2.0, 12) == 24 / (22 + 22)
    assert largest_rate(22.0, 2.0, 10**9) == pytest.approx(2 / 2, rel=1e-7), "as gradient descent"
    assert batch_threshold(22.0, 2.0) == 12
    with pytest.raises(ValueError, match="radius must be at least 2, which is norm, got 1"):
        largest_rate(1.0, 2.0)


def test_without_noise_the_error_falls_geometrically() -> None:
    rate = largest_rate(RADIUS, NORM, 8) / 2
    errors = [float(np.sum(gaussian(8, rate, steps) ** 2)) for steps in (100, 200, 300)]
    assert errors[1] < 1e-3 * errors[0]
    assert errors[2] < 1e-3 * errors[1]


def test_the_tail_average_has_the_optimal_variance() -> None:
    """sigma^2 d / (samples in the tail), up to a constant near one; the last iterate is far worse."""
    batch, steps, burn_in, noise = 4, 1500, 300, 0.5
    rate = largest_rate(RADIUS, NORM, batch) / 8
    tails, lasts = ([gaussian(batch, rate, steps, noise, seed, at) for seed in range(8)] for at in (burn_in, 0))
    optimal = noise**2 * DIMENSIONS / (batch * (steps - burn_in))
    tail, last = (np.mean([np.sum(w**2) for w in found]) for found in (tails, lasts))
    assert 0.6 * optimal < tail < 1.6 * optimal
    assert last > 10 * tail
