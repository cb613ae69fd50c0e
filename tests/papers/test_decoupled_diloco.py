"""Decoupled DiLoCo: radial-directional averages, and the recursion that is made of them."""

from __future__ import annotations

import numpy as np
import pytest
from tests.papers.problems import EQUAL, RATE, Array, difference, in_turn, quadratics, trace

import loosestep as ls
from loosestep import buffers
from loosestep.requests import Shared
from loosestep.strategies.decoupled_diloco import radial_directional
from loosestep.worker import Worker

PROBLEM = quadratics(4, 6)


def average(deltas: Array, weights: list[float]) -> Array:
    """By the library."""
    out = np.empty_like(deltas[0])
    radial_directional(list(deltas), weights, out)
    return out


def by_hand(deltas: Array, weights: list[float]) -> Array:
    w, lengths = np.array(weights)[:, None], np.linalg.norm(deltas, axis=1, keepdims=True)
    direction = (w * deltas / lengths).sum(axis=0) / w.sum()
    return np.asarray((w * lengths).sum() / w.sum() * direction / np.linalg.norm(direction))


def test_it_is_its_formula() -> None:
    deltas = np.random.default_rng(3).standard_normal((5, 40)) * np.array([1, 2, 3, 0.1, 10])[:, None]
    for weights in ([1.0] * 5, [3.0, 1.0, 0.5, 2.0, 7.0]):
        assert difference(average(deltas, weights), by_hand(deltas, weights)) < EQUAL


def test_of_one_or_of_equal_ones_it_is_the_delta() -> None:
    delta = np.random.default_rng(4).standard_normal((1, 40))
    assert difference(average(delta, [2.0]), delta[0]) < EQUAL
    assert difference(average(np.tile(delta, (3, 1)), [1.0, 2.0, 5.0]), delta[0]) < EQUAL


@pytest.mark.parametrize("count", [2, 4, 9])
def test_orthogonal_ones_of_length_1_have_an_average_of_length_1(count: int) -> None:
    found = average(np.eye(count), [1.0] * count)
    assert np.linalg.norm(found) == pytest.approx(1, rel=1e-12)
    assert np.linalg.norm(np.eye(count).mean(axis=0)) == pytest.approx(count**-0.5)


def test_a_weight_of_zero_and_a_delta_of_zero_have_no_direction() -> None:
    deltas = np.array([[3.0, 0.0], [0.0, 0.0], [np.nan, 1.0]])
    assert difference(average(deltas, [1.0, 1.0, 0.0]), np.array([1.5, 0.0])) < EQUAL
    assert difference(average(deltas, [0.0, 0.0, 0.0]), np.zeros(2)) == 0


def test_directions_that_cancel_leave_the_weighted_mean() -> None:
    deltas = np.array([[1.0, 2.0], [-3.0, -6.0]])
    assert difference(average(deltas, [1.0, 1.0]), np.array([-1.0, -2.0])) < EQUAL


def recursion(fragments: int, delay: int, steps: int) -> Array:
    """Period 4, rate 0.7, momentum 0.9: replicas at the end, from the start."""
    x, c, u, size = PROBLEM.starts(), PROBLEM.start.copy(), np.zeros(6), 6 // fragments
    sent: tuple[int, slice, Array] | None = None
    for step in range(1, steps + 1):
        x = x - RATE * PROBLEM.gradients(x)
        for when in ("merge", "send", "merge"):
            if when == "send" and step % 4 == 0:
                place = (step // 4 - 1) % fragments
                part = slice(place * size, (place + 1) * size)
                sent = (step + delay, part, x[:, part].copy())
            elif when == "merge" and sent is not None and sent[0] == step:
                _, part, snapshots = sent
                outer = by_hand(c[part] - snapshots, [1.0] * 4)
                u[part] = 0.9 * u[part] + outer
                c[part] = c[part] - 0.7 * (outer + 0.9 * u[part])
                x[:, part], sent = c[part], None
    return x


@pytest.mark.parametrize("on", [in_turn(4), ls.Threads(4)], ids=repr)
@pytest.mark.parametrize(("fragments", "delay"), [(1, 0), (2, 0), (3, 2)])
def test_it_follows_its_recursion(fragments: int, delay: int, on: ls.Threads) -> None:
    found = trace(ls.DecoupledDiLoCo(4, fragments, delay), PROBLEM, 48, on=on)
    assert difference(found.replicas, recursion(fragments, delay, 48)) < 1e-11


def test_workers_that_are_alike_make_it_streaming_diloco_that_overwrites() -> None:
    one = quadratics(1, 6)
    alike = type(one)(np.tile(one.curvatures, (4, 1)), np.tile(one.minima, (4, 1)), one.start)
    found = trace(ls.DecoupledDiLoCo(4, 2, 1), alike, 48)
    other = trace(ls.StreamingDiLoCo(4, 2, 1, 0.0, 0.7), alike, 48)
    assert difference(found.replicas, other.replicas) < EQUAL


def test_tensors_are_averaged_one_by_one() -> None:
    made = Worker(0, 1, buffers.zeros(20, np.float64), lambda name, like: Shared(name, 0, like.dtype, None))
    made.edges = (0, 5, 12, 17)
    parts = [made.tensors(part) for part in made.fragments(2)]
    assert parts == [[slice(0, 5), slice(5, 12)], [slice(0, 5), slice(5, 8)]]
