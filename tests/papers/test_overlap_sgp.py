"""Overlap SGP: the recursion on directed graphs, mass that is conserved in flight, and what a checkpoint keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.contract.test_resuming import CRASHES, check_crashes
from tests.papers.problems import EQUAL, RATE, Array, difference, in_turn, quadratics, trace
from tests.papers.test_sgp import Star

import loosestep as ls

PROBLEM = quadratics(5)


def pushed(topology: ls.Topology, steps: int, period: int, delay: int) -> tuple[Array, Array]:
    """Where gradients are taken (z), and mean_i x_i after every step, of x <- P x(s) + (x - x(s)), w likewise."""
    x, w = PROBLEM.starts(), np.ones((5, 1))
    z, points, means, sent = x.copy(), [], [], None
    for step in range(steps):
        points.append(z)
        moved = -RATE * PROBLEM.gradients(z)
        x, z = x + moved, z + moved  # x as if nothing had been sent: it counts as its sender's
        if sent is not None and step % period == (delay - 1) % period and step >= sent[2] + delay - 1:
            mixing, (old_x, old_w, _) = topology.matrix(5, (sent[2] // period) - 1), sent
            x, w = mixing @ old_x + (x - old_x), mixing @ old_w
            z, sent = x / w, None
        if (step + 1) % period == 0:
            sent = (x.copy(), w.copy(), step + 1)
        means.append(x.mean(axis=0))
    return np.array(points), np.array(means)


@pytest.mark.parametrize("topology", [Star(), ls.OnePeerExponential(), ls.Ring()], ids=repr)
@pytest.mark.parametrize(("period", "delay"), [(1, 1), (3, 1), (3, 3)])
def test_it_follows_its_recursion(topology: ls.Topology, period: int, delay: int) -> None:
    found = trace(ls.OverlapSGP(topology, period, delay), PROBLEM, 24, every=1)
    points, means = pushed(topology, 24, period, delay)
    assert difference(np.stack(found.points, axis=1), points) < EQUAL
    if period == delay:  # else not every step can be looked at
        assert difference(found.centers, means) < EQUAL


@pytest.mark.parametrize("on", [in_turn(5), ls.Threads(5)], ids=repr)
def test_mass_in_flight_is_not_lost(on: ls.Threads) -> None:
    """Without gradients after five steps the consensus rests, in flight or not, and all z come to it."""
    apart = ls.SGD(lambda step: RATE if step < 5 else 0.0)
    found = trace(ls.OverlapSGP(Star(), 3, 2), PROBLEM, 240, on=on, optimizer=apart, every=1)
    rest = found.centers[6:]
    assert len(rest) > 100
    assert difference(rest, np.tile(rest[0], (len(rest), 1))) < EQUAL
    assert difference(found.replicas, np.tile(rest[0], (5, 1))) < 1e-6
    assert np.abs(found.points[0][-1] - found.points[0][6]).max() > 1e-2


def test_the_weight_is_sent_on_irregular_graphs_alone() -> None:
    assert ls.OverlapSGP(ls.Ring()).cost(5, 5) == (10, 2, 0)
    assert ls.OverlapSGP(Star()).cost(5, 5) == (8 / 5 * 6, 8 / 5, 0)


def test_killed_and_resumed_what_was_in_flight_is_there(tmp_path: Path) -> None:
    check_crashes(ls.OverlapSGP(Star(), 4, 3), ls.Threads(3), tmp_path, CRASHES[::4], least=1)
    with pytest.raises(ValueError, match="topology must be doubly or column-stochastic, to push sums"):
        ls.OverlapSGP(ls.Graph(Star().matrix(5).T))
