"""How far replicas of CDSGD and CDMSGD are from their mean: the bound, where it is reached, rest, and noise."""

from __future__ import annotations

import numpy as np
import pytest
from tests.papers.problems import RATE, Array, difference, in_turn, quadratics, rank_forever, trace

import loosestep as ls

CHAIN = ls.Graph(((1,), (0, 2), (1, 3), (2,)))
GRAPHS = [ls.Complete(), ls.Ring(), CHAIN]
MOMENTA = [0.0, 0.7]


def optimizer(mu: float) -> ls.SGD | ls.Nesterov:
    """Make the same step in the long run."""
    return ls.Nesterov(RATE * (1 - mu), mu) if mu else ls.SGD(RATE)


def apart(rows: Array) -> Array:
    return np.asarray(rows - rows.mean(axis=-2, keepdims=True))


def second_modulus(topology: ls.Topology) -> float:
    return float(np.sort(np.abs(np.linalg.eigvalsh(topology.matrix(4))))[-2])


@pytest.mark.parametrize("mu", MOMENTA)
@pytest.mark.parametrize("topology", GRAPHS[1:], ids=["ring", "chain"])
def test_replicas_rest_apart_by_what_differs_in_their_gradients(topology: ls.Topology, mu: float) -> None:
    """X - mean X = -eta / (1 - mu) (I - W)^+ (G - mean G), at any curvatures."""
    problem = quadratics()
    found = trace(ls.CDSGD(topology), problem, 350, optimizer=optimizer(mu)).replicas
    opened = np.linalg.pinv(np.eye(4) - topology.matrix(4))
    assert difference(apart(found), -RATE * opened @ apart(problem.gradients(found))) < 1e-9
    assert np.abs(apart(found)).max() > 0.05


@pytest.mark.parametrize("mu", MOMENTA)
@pytest.mark.parametrize("topology", GRAPHS, ids=["complete", "ring", "chain"])
def test_no_farther_than_rate_times_gradient_by_the_spectral_gap(topology: ls.Topology, mu: float) -> None:
    problem = quadratics()
    points = np.stack(trace(ls.CDSGD(topology), problem, 60, optimizer=optimizer(mu)).points, axis=1)
    largest = max(float(np.linalg.norm(problem.gradients(each))) for each in points)
    farthest = float(np.linalg.norm(apart(points), axis=(1, 2)).max())
    assert 0.1 * RATE * largest < farthest < RATE * largest / (1 - second_modulus(topology))


def test_as_far_where_gradients_differ_along_the_slowest_mode() -> None:
    values, modes = np.linalg.eigh(CHAIN.matrix(4))
    slowest = modes[:, -2]
    result = ls.run(
        ls.CDSGD(CHAIN),
        lambda x, rank: np.full(1, slowest[rank]),
        np.zeros(1),
        rank_forever,
        optimizer=ls.SGD(RATE),
        on=in_turn(4),
        steps=250,
    )
    found = np.array([worker.params for worker in result.workers])
    assert np.linalg.norm(apart(found)) == pytest.approx(RATE / (1 - values[-2]), rel=1e-9)
    assert result.consensus_distance == pytest.approx(RATE**2 / (1 - values[-2]) ** 2 / 4, rel=1e-9)


@pytest.mark.parametrize("mu", MOMENTA)
def test_noise_keeps_replicas_apart_by_the_sum_over_modes(mu: float) -> None:
    """Of unit variance, new in every step: eta^2 sum_k 1 / (1 - lambda_k^2) without momentum."""
    size = 10_000
    draws = [np.random.default_rng(rank) for rank in range(4)]
    result = ls.run(
        ls.CDSGD(CHAIN),
        lambda x, rank: draws[rank].normal(size=size),
        np.zeros(size),
        rank_forever,
        optimizer=optimizer(mu),
        on=in_turn(4),
        steps=60,
    )
    values = np.linalg.eigvalsh(CHAIN.matrix(4))[:-1]
    variance = sum(float((response(value, mu) ** 2).sum()) for value in values)
    if not mu:
        assert variance == pytest.approx((1 / (1 - values**2)).sum())
    scale = RATE * (1 - mu)
    assert result.consensus_distance / size == pytest.approx(scale**2 * variance / 4, rel=0.02)


def response(value: float, mu: float) -> Array:
    """Return what a unit gradient leaves in a mode of that eigenvalue, step after step."""
    x, v, found = 0.0, 0.0, []
    for step in range(200):
        g = float(step == 0)
        v = mu * v - g
        x = value * x + mu * v - g
        found.append(x)
    return np.array(found)
