"""CHOCO-SGD: its recursion, D-PSGD as its special case, the mean that it keeps, and where it diverges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.papers.problems import EQUAL, RATE, Array, difference, in_turn, quadratics, trace

import loosestep as ls

PROBLEM = quadratics(5, 6)
ON = [in_turn(5), ls.Threads(5)]


@pytest.mark.parametrize("on", ON, ids=repr)
@pytest.mark.parametrize("topology", [None, ls.Complete(), ls.Torus()], ids=repr)
def test_the_identity_is_adapt_then_combine(topology: Any, on: Any) -> None:
    """D-PSGD in the form x <- W (x - eta g), which SGP is on a doubly stochastic graph."""
    found = trace(ls.ChocoSGD(topology, None, 1.0), PROBLEM, 30, on=on)
    assert difference(found.replicas, trace(ls.SGP(topology or ls.Ring()), PROBLEM, 30).replicas) < EQUAL
    w, x = (topology or ls.Ring()).matrix(5), PROBLEM.starts()
    for _ in range(30):
        x = w @ (x - RATE * PROBLEM.gradients(x))
    assert difference(found.replicas, x) < EQUAL


def scattered(strategy: ls.Strategy, steps: int, size: int = 40, n: int = 8) -> tuple[Array, Array]:
    """Replicas that begin at points of their own, by a first step of rate 1, and then only gossip."""
    starts = np.random.default_rng(3).standard_normal((n, size))
    result = ls.run(
        strategy,
        lambda x, batch: x - starts[batch] if batch >= 0 else np.zeros_like(x),
        np.zeros(size),
        lambda rank, workers: iter([rank] + [-1] * (steps - 1)),
        on=ls.Threads(n),
        optimizer=ls.SGD(1.0),
    )
    return starts, np.array([worker.params for worker in result.workers])


def test_gossip_alone_is_that_of_cdsgd() -> None:
    """Without gradients, mixing before or after them is the same, one mix apart."""
    _, one = scattered(ls.ChocoSGD(codec=None, rate=1.0), 9)
    _, other = scattered(ls.CDSGD(), 10)
    assert difference(one, other) < EQUAL


@pytest.mark.parametrize("codec", [ls.Sign(), ls.TopK(0.1, width=64), ls.RandomK(0.2), ls.QSGD(3, 8), ls.Float8()])
def test_the_mean_stays_whatever_is_rounded(codec: ls.Codec) -> None:
    starts, found = scattered(ls.ChocoSGD(codec=codec, rate=0.2), 30)
    assert difference(found.mean(axis=0), starts.mean(axis=0)) < EQUAL


def test_replicas_come_to_the_mean_at_a_linear_rate() -> None:
    spread = []
    for steps in (1, 201, 401):
        starts, found = scattered(ls.ChocoSGD(codec=ls.TopK(0.1, width=64), rate=0.1), steps)
        spread.append(float(np.abs(found - starts.mean(axis=0)).max()))
    assert spread[1] < 0.2 * spread[0]
    assert spread[2] < 0.2 * spread[1]


def test_a_step_that_is_too_long_for_what_is_kept_diverges() -> None:
    """One value of 40 at a time with g = 1."""
    starts, found = scattered(ls.ChocoSGD(codec=ls.TopK(1 / 40, width=64), rate=1.0), 400)
    assert np.abs(found - starts.mean(axis=0)).max() > 10 * np.abs(starts).max()
    starts, found = scattered(ls.ChocoSGD(codec=ls.TopK(1 / 40, width=64), rate=0.02), 400)
    assert np.abs(found - starts.mean(axis=0)).max() < np.abs(starts).max()


@pytest.mark.parametrize("on", ON, ids=repr)
def test_it_follows_its_recursion(on: Any) -> None:
    x, y = PROBLEM.starts(), PROBLEM.starts()
    w = ls.Ring().matrix(5)
    for _ in range(25):
        x = x - RATE * PROBLEM.gradients(x)
        moved = x - y
        size = np.abs(moved).mean(axis=1, keepdims=True).astype(np.float32)
        y = y + size * np.where(np.signbit(moved), -1, 1)
        x = x + 0.5 * (w @ y - y)
    found = trace(ls.ChocoSGD(), PROBLEM, 25, on=on)
    assert difference(found.replicas, x) < 1e-6, "the mean size is sent as float32"


def test_a_graph_that_changes_is_refused() -> None:
    with pytest.raises(ValueError, match="^topology must stay as it is, so that sums can be kept, got "):
        trace(ls.ChocoSGD(ls.OnePeerExponential()), PROBLEM, 2)
    with pytest.raises(ValueError, match="^rate must be at most 1, got 1.5$"):
        ls.ChocoSGD(rate=1.5)
