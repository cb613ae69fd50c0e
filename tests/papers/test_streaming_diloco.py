"""Streaming DiLoCo: its recursion by fragments, where they are cut, and what is sent at once."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from tests.papers.problems import EQUAL, RATE, Array, difference, in_turn, quadratics, trace

import loosestep as ls
from loosestep.foundation import buffers
from loosestep.requests import Shared
from loosestep.requests.worker import Worker

PROBLEM = quadratics(4, 6)
TRANSPORTS = [in_turn(4), ls.Threads(4)]


def as_it_is(outer: Array) -> Array:
    return outer


def streaming(
    fragments: int, offset: int, delay: int, steps: int, keep: float, rate: float, mu: float,
    rounded: Callable[[Array], Array] = as_it_is,
) -> Array:  # fmt: skip
    """Fragment p at (t - t_p) % H == 0, H = fragments * offset, t_p = (p + 1) offset; the replicas at the end."""
    period, size = fragments * offset, 6 // fragments
    x, c, u = PROBLEM.starts(), PROBLEM.start.copy(), np.zeros(6)
    under_way: dict[int, tuple[int, Array]] = {}
    for step in range(1, steps + 1):
        x = x - RATE * PROBLEM.gradients(x)
        for p in range(fragments):
            part = slice(p * size, (p + 1) * size)
            for when in ("merge", "start", "merge"):
                if when == "start" and (step - (p + 1) * offset) % period == 0:
                    under_way[p] = (step + delay, np.mean([rounded(c[part] - own[part]) for own in x], axis=0))
                elif when == "merge" and p in under_way and under_way[p][0] == step:
                    outer = under_way.pop(p)[1]
                    u[part] = mu * u[part] + outer
                    c[part] = c[part] - rate * (outer + mu * u[part])
                    x[:, part] = keep * x[:, part] + (1 - keep) * c[part]
    return x


@pytest.mark.parametrize("on", TRANSPORTS, ids=repr)
@pytest.mark.parametrize(("fragments", "delay"), [(1, 0), (2, 0), (2, 1), (3, 2), (3, 4)])
def test_it_follows_its_recursion(fragments: int, delay: int, on: ls.Threads) -> None:
    strategy = ls.StreamingDiLoCo(4, fragments, delay, 0.5, 0.7, 0.9)
    found = trace(strategy, PROBLEM, 72, on=on)
    assert difference(found.replicas, streaming(fragments, 4, delay, 72, 0.5, 0.7, 0.9)) < EQUAL


def test_a_fragment_is_what_is_sent_at_once() -> None:
    strategy = ls.StreamingDiLoCo(4, 3)
    found = trace(strategy, PROBLEM, 12)
    assert found.result.bytes_sent == 3 * 2 * 3 / 4 * (6 / 3) * 8


def worker(size: int, edges: tuple[int, ...] = ()) -> Worker:
    made = Worker(0, 1, buffers.zeros(size, np.float64), lambda name, like: Shared(name, 0, like.dtype, None))
    made.edges = edges
    return made


@pytest.mark.parametrize(("size", "count"), [(10, 1), (10, 3), (7, 7), (1000, 6)])
def test_fragments_cover_all_and_are_of_nearly_equal_size(size: int, count: int) -> None:
    parts = worker(size).fragments(count)
    sizes = [part.stop - part.start for part in parts]
    assert (parts[0].start, parts[-1].stop) == (0, size)
    assert all(one.stop == other.start for one, other in pairwise(parts))
    assert max(sizes) - min(sizes) <= 1


def test_fragments_begin_with_tensors_that_are_near() -> None:
    """Of cuts at 25, 50 and 75 the last finds no tensor that is nearer than half a fragment."""
    parts = worker(100, (0, 24, 30, 60, 90)).fragments(4)
    assert [part.start for part in parts] == [0, 24, 60, 75]
    assert [part.start for part in worker(100, (0, 49, 51)).fragments(2)] == [0, 49]


def test_more_fragments_than_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="^fragments must be at most 3, the number of parameters, got 4$"):
        worker(3).fragments(4)


def test_strided_fragments_are_each_of_early_and_late_parts() -> None:
    strategy, made = ls.StreamingDiLoCo(fragments=3, pattern="strided"), worker(90)
    parts = [strategy.parts(made, place) for place in range(3)]
    assert [part for part, _ in parts[1]] == [slice(10, 20), slice(40, 50), slice(70, 80)]
    assert [room for _, room in parts[1]] == [slice(0, 10), slice(10, 20), slice(20, 30)]
    covered = sorted((part.start, part.stop) for each in parts for part, _ in each)
    assert covered == [(start, start + 10) for start in range(0, 90, 10)]
    assert [len(strategy.parts(worker(7), place)) for place in range(3)] == [2, 2, 2]


@pytest.mark.parametrize("codec", [None, ls.E3M0()], ids=str)
@pytest.mark.parametrize("delay", [0, 2])
def test_which_elements_are_a_fragment_matters_to_none_of_them(delay: int, codec: Any) -> None:
    """Elements of a diagonal quadratic do not know each other: strided is sequential of permuted elements."""
    order, one = [0, 2, 1, 3], quadratics(4, 4)
    permuted = type(one)(one.curvatures[:, order], one.minima[:, order], one.start[order])
    strided = trace(ls.StreamingDiLoCo(4, 2, delay, codec=codec, pattern="strided"), one, 48)
    sequential = trace(ls.StreamingDiLoCo(4, 2, delay, codec=codec), permuted, 48)
    assert difference(strided.replicas[:, order], sequential.replicas) == 0
