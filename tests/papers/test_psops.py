"""PSO-PS: the degenerate cases of the swarm, and a best place whose loss never rises."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

import numpy as np
import pytest
from tests.papers.problems import EQUAL, RATE, Array, difference, in_turn, quadratics, rank_forever

import loosestep as ls
from loosestep.requests.worker import Worker

MINIMUM = np.array([1.0, -2.0, 0.5])
CURVATURES = np.array([0.2, 0.5, 1.0])


def gradient(x: Array, rank: int) -> tuple[float, Array]:
    """Every worker has the same function, and its own noise."""
    noise = np.random.default_rng([rank, int(1e6 * abs(x).sum())]).normal(size=3)
    gap = CURVATURES * (x - MINIMUM) + 0.1 * noise
    return float(CURVATURES @ (x - MINIMUM) ** 2 / 2), gap


def batches(rank: int, size: int) -> Iterator[int]:
    return repeat(rank)


def go(strategy: ls.Strategy, steps: int, on: ls.Threads | None = None) -> tuple[ls.Result, list[Array]]:
    bests: list[Array] = []
    result = ls.run(
        strategy,
        gradient,
        np.zeros(3),
        batches,
        optimizer=ls.SGD(RATE),
        on=in_turn(4) if on is None else on,
        steps=steps,
        every=4,
        evaluate=lambda x: bests.append(x.copy()) or 0.0,  # type: ignore[func-returns-value]
    )
    return result, bests


def loss(x: Array) -> float:
    return float(CURVATURES @ (x - MINIMUM) ** 2 / 2)


class Copies(ls.PSOPS):
    """Draws nothing: c1 r1 = 0 and c2 r2 = 1."""

    def pulls(self, worker: Worker) -> tuple[float, float]:
        return 0.0, 1.0


def test_without_inertia_and_pulls_workers_are_independent() -> None:
    found, _ = go(ls.PSOPS(4, 0.0, 0.0, 0.0), 12)
    alone, _ = go(ls.OneShotAveraging(), 12)
    for one, other in zip(found.workers, alone.workers, strict=False):
        assert other.steps == 12
        assert one.params.shape == other.params.shape
    first = np.zeros(3)
    for _ in range(12):
        first = first - RATE * gradient(first, 0)[1]
    assert difference(found.workers[0].params, first) < EQUAL


def test_drawn_to_the_best_of_all_alone_all_copy_it() -> None:
    result, bests = go(Copies(4, 0.0), 12)
    for worker in result.workers:
        assert difference(worker.params, result.params) < EQUAL
    assert difference(bests[-1], result.params) == 0


class Steady(ls.PSOPS):
    """Draws the same in every round: c1 r1 = 0.4, c2 r2 = 0.9."""

    def pulls(self, worker: Worker) -> tuple[float, float]:
        return 0.4, 0.9


def test_workers_move_by_the_usual_recursion() -> None:
    """Inertia 0.5, rounds of 3 steps, workers with functions of their own."""
    problem, seen = quadratics(), [list[Array]() for _ in range(4)]

    def gradient(x: Array, rank: int) -> tuple[float, Array]:
        seen[rank].append(x.copy())
        found = problem.gradient(x, rank)
        return float(found @ (x - problem.minima[rank])) / 2, found

    result = ls.run(
        Steady(3, 0.5),
        gradient,
        problem.start,
        rank_forever,
        optimizer=ls.SGD(RATE),
        on=in_turn(4),
        steps=15,
    )
    x = problem.starts()
    v, best, least = np.zeros_like(x), x.copy(), np.full(4, np.inf)
    for step in range(15):
        if step % 3 == 0:
            lost = np.zeros(4)
        assert difference(np.array([points[step] for points in seen]), x) < EQUAL
        g = problem.gradients(x)
        lost += (g * (x - problem.minima)).sum(axis=1) / 2
        x = x - RATE * g
        if step % 3 == 2:
            better = lost / 3 < least
            best[better], least[better] = x[better], lost[better] / 3
            v = 0.5 * v + 0.4 * (best - x) + 0.9 * (best[least.argmin()] - x)
            x = x + v
    assert difference(result.params, best[least.argmin()]) < EQUAL


@pytest.mark.parametrize("on", [in_turn(4), ls.Threads(4)], ids=repr)
def test_the_best_place_is_never_left_for_a_worse_one(on: ls.Threads) -> None:
    _, bests = go(ls.PSOPS(), 80, on)
    losses = [loss(best) for best in bests]
    assert len(losses) == 20
    assert losses[-1] < 0.2 * losses[0]
    changes = sum(bool((one != other).any()) for one, other in zip(bests[1:], bests[:-1], strict=True))
    assert 1 <= changes < 19, "it is kept where no worker was better"


def test_of_equals_the_lowest_rank_wins() -> None:
    """All losses are 1; every worker moves to a place of its own."""
    result = ls.run(
        Copies(1, 0.0),
        lambda x, rank: (1.0, x - rank),
        np.full(3, 9.0),
        batches,
        optimizer=ls.SGD(1.0),
        on=in_turn(4),
        steps=1,
    )
    assert result.params.tolist() == [0.0, 0.0, 0.0]


def test_a_gradient_without_a_loss_is_refused() -> None:
    with pytest.raises(
        Exception, match=r"gradient must return \(loss, gradient\) for PSOPS, which compares losses"
    ):
        ls.run(ls.PSOPS(), lambda x, rank: x, np.zeros(3), batches, on=in_turn(2), steps=4)
