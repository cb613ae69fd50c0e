"""DaSGD, CoCoD-SGD, Overlap-Local-SGD: averages that arrive late, what they keep, and what they hide."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.papers.problems import EQUAL, RATE, Array, Quadratics, difference, in_turn, quadratics, sgd, trace

import loosestep as ls

PROBLEM = quadratics()
TRANSPORTS = [in_turn(4), ls.Threads(4)]


def dasgd(problem: Quadratics, period: int, delay: int, steps: int, merge: str, xi: float = 0.25) -> Array:
    """Where gradients are taken, and the end: snapshots at t % period == 0, merged `delay` steps later."""
    x, path, under_way = problem.starts(), [], None
    for step in range(1, steps + 1):
        path.append(x)
        x = x - RATE * problem.gradients(x)
        if under_way is not None and step == under_way[0]:
            x, under_way = merged(x, under_way[1], merge, xi), None
        if step % period == 0:
            under_way = (step + delay, x)
            if not delay:
                x, under_way = merged(x, x, merge, xi), None
    return np.array([*path, x])


def merged(x: Array, snapshot: Array, merge: str, xi: float) -> Array:
    mean = np.tile(snapshot.mean(axis=0), (len(x), 1))
    return {"lerp": xi * x + (1 - xi) * mean, "correct": mean + (x - snapshot), "replace": mean}[merge]


def overlap(problem: Quadratics, period: int, alpha: float, gmf: float, steps: int) -> Array:
    """x <- (1 - alpha) x + alpha z; b <- gmf b + (z - x); the next z is the mean of z - b."""
    x, b, z, first, path = problem.starts(), np.zeros((4, 5)), problem.start, True, []
    for step in range(1, steps + 1):
        path.append(x)
        x = x - RATE * problem.gradients(x)
        if step % period == 0:
            x = x if first else (1 - alpha) * x + alpha * z
            b = gmf * b + (z - x)
            z, first = (z - b).mean(axis=0), False
    return np.array([*path, x])


def follows(found: Any, expected: Array) -> None:
    assert difference(np.stack(found.points, axis=1), expected[:-1]) < EQUAL
    assert difference(found.replicas, expected[-1]) < EQUAL


@pytest.mark.parametrize("on", TRANSPORTS, ids=repr)
@pytest.mark.parametrize(
    ("merge", "delay"),
    [
        *((merge, delay) for merge in ("lerp", "correct", "replace") for delay in (0, 1, 3)),
        ("lerp", 4),
        ("correct", 4),
    ],
)
def test_dasgd_follows_its_recursion(merge: str, delay: int, on: ls.Threads) -> None:
    follows(trace(ls.DaSGD(4, delay, merge), PROBLEM, 40, on=on), dasgd(PROBLEM, 4, delay, 40, merge))


UNDOING = [
    (ls.DaSGD, {"delay": 4, "merge": "replace"}),
    (ls.DaSGD, {"delay": 4, "keep": 0.0}),
    (ls.StreamingDiLoCo, {"fragments": 1, "delay": 4, "keep": 0.0}),
]


@pytest.mark.parametrize(("kind", "options"), UNDOING)
def test_a_merge_that_would_undo_every_step_is_refused(kind: type[ls.Strategy], options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="^delay must be below period=4 where a merge keeps no step"):
        kind(4, **options)


@pytest.mark.parametrize("on", TRANSPORTS, ids=repr)
def test_cocod_follows_its_recursion(on: ls.Threads) -> None:
    follows(trace(ls.CoCoDSGD(4), PROBLEM, 40, on=on), dasgd(PROBLEM, 4, 4, 40, "correct"))


@pytest.mark.parametrize("on", TRANSPORTS, ids=repr)
@pytest.mark.parametrize("gmf", [0.0, 0.7])
def test_overlap_follows_its_recursion(gmf: float, on: ls.Threads) -> None:
    strategy = ls.OverlapLocalSGD(3, anchor_momentum=gmf)
    follows(trace(strategy, PROBLEM, 42, on=on), overlap(PROBLEM, 3, 0.6, gmf, 42))


def test_a_pull_of_1_makes_all_replicas_the_mean_of_a_period_ago() -> None:
    found = trace(ls.OverlapLocalSGD(3, pull=1.0), PROBLEM, 30)
    assert difference(found.replicas, np.tile(found.replicas[0], (4, 1))) < EQUAL
    before = trace(ls.OverlapLocalSGD(3, pull=1.0), PROBLEM, 27)  # its replicas are what was sent
    assert difference(found.center, before.center) < EQUAL


@pytest.mark.parametrize("delay", [1, 3, 5])
def test_correct_leaves_the_mean_of_the_replicas_as_it_is(delay: int) -> None:
    """With gradients of zero after the first snapshot the mean stays; with any, it moves by their mean alone."""
    found = trace(ls.DaSGD(5, delay, "correct"), PROBLEM, 40)
    points = np.stack(found.points, axis=1)
    moved = RATE * np.array([PROBLEM.gradients(x).mean(axis=0) for x in points])
    expected = PROBLEM.start - np.cumsum(moved, axis=0)
    assert difference(points[1:].mean(axis=1), expected[:-1]) < EQUAL
    assert difference(found.center, expected[-1]) < EQUAL


def test_workers_that_are_alike_make_correct_plain_sgd() -> None:
    one = quadratics(1)
    alike = Quadratics(np.tile(one.curvatures, (4, 1)), np.tile(one.minima, (4, 1)), one.start)
    found = trace(ls.DaSGD(4, 2, "correct"), alike, 40)
    assert difference(found.center, sgd(one, 0, 40)[-1]) < 1e-15 * 40


def distance(strategy: ls.Strategy) -> tuple[float, float]:
    """Of the mean model from the optimum of the mean loss, and of the replicas from their mean."""
    curvatures, minima = PROBLEM.curvatures, PROBLEM.minima
    optimum = (curvatures * minima).sum(axis=0) / curvatures.sum(axis=0)
    found = trace(strategy, PROBLEM, 1200, optimizer=ls.SGD(0.02))
    return float(np.linalg.norm(found.center - optimum)), float(np.linalg.norm(found.replicas - found.center))


def test_with_unlike_data_a_merge_that_keeps_more_is_farther_off() -> None:
    """The order that the reference page lists: replace, local SGD, lerp by how much it keeps; the spread grows."""
    kept = [distance(ls.DaSGD(4, 2, "lerp", keep)) for keep in (0.25, 0.5, 0.75)]
    replace, plain = distance(ls.DaSGD(4, 2, "replace")), distance(ls.LocalSGD(4))
    order = [replace, plain, *kept]
    assert [bias for bias, _ in order] == sorted(bias for bias, _ in order)
    assert [spread for _, spread in kept] == sorted(spread for _, spread in kept)


# --- what it hides -------------------------------------------------------------------------------------------

LATENCY, STEP = 1e-3, 1e-2


@pytest.mark.parametrize(
    "messages", [6 * LATENCY, 48 * LATENCY], ids=["less than the delay", "more than the delay"]
)
@pytest.mark.parametrize("delay", [1, 2, 4])
def test_a_round_takes_the_longer_of_the_two_and_not_their_sum(delay: int, messages: float) -> None:
    on = ls.Simulated(4, step_time=STEP, latency=messages, bandwidth=1e6)
    average = messages + 3 * 5 * 8 / 1e6
    seconds = [trace(ls.DaSGD(4, delay), PROBLEM, 4 * rounds, on=on).result.seconds for rounds in (5, 6)]
    a_round = seconds[1] - seconds[0]
    hidden = max(delay * STEP, average) + (4 - delay) * STEP
    assert a_round == pytest.approx(hidden, rel=0.02)
    plain = trace(ls.LocalSGD(4), PROBLEM, 20, on=on).result.seconds / 5
    assert plain == pytest.approx(4 * STEP + average, rel=0.02)
