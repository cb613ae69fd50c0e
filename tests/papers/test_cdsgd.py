"""CDSGD and CDMSGD on fixed topologies: the rule, the two extremes, the mean, the limit of the step size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from tests.papers.problems import (
    EQUAL,
    RATE,
    Array,
    around,
    changes_sides,
    difference,
    homogeneous,
    in_turn,
    quadratics,
    sgd,
    trace,
)

import loosestep as ls

PROBLEM = quadratics()
TRANSPORTS = [in_turn(4), ls.Threads(4)]
RING_OF_4 = np.array([[1, 1, 0, 1], [1, 1, 1, 0], [0, 1, 1, 1], [1, 0, 1, 1]]) / 3


@dataclass(frozen=True, repr=False)
class Alone(ls.Topology):
    """W = I."""

    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        return {rank: 1.0}


def consensus_sgd(mixing: Array, steps: int, mu: float = 0.0, form: str = "nesterov") -> Array:
    """v <- mu v - eta g(x), x <- W x + (mu v - eta g, or v): all replicas, steps + 1 times."""
    x = PROBLEM.starts()
    v, path = np.zeros_like(x), [x]
    for _ in range(steps):
        g = PROBLEM.gradients(x)
        v = mu * v - RATE * g
        x = mixing @ x + (mu * v - RATE * g if form == "nesterov" else v)
        path.append(x)
    return np.array(path)


def replicas(found: list[Array]) -> Array:
    return np.stack(found, axis=1)


def test_the_matrices_are_those_of_their_graphs() -> None:
    assert difference(ls.Ring().matrix(4), RING_OF_4) == 0
    assert difference(ls.Complete().matrix(4), np.full((4, 4), 0.25)) == 0
    assert ls.Torus().matrix(9)[4].tolist() == [0, 0.2, 0, 0.2, 0.2, 0.2, 0, 0.2, 0]


@pytest.mark.parametrize("on", TRANSPORTS, ids=repr)
def test_on_a_ring_replicas_mix_and_adapt_at_the_unmixed_point(on: ls.Threads) -> None:
    found, expected = trace(ls.CDSGD(ls.Ring()), PROBLEM, 40, on=on), consensus_sgd(RING_OF_4, 40)
    assert difference(replicas(found.points), expected[:-1]) < EQUAL
    assert difference(found.replicas, expected[-1]) < EQUAL
    assert difference(found.center, expected[-1].mean(axis=0)) < EQUAL


@pytest.mark.parametrize("on", TRANSPORTS, ids=repr)
def test_cdmsgd_is_the_form_of_the_release(on: ls.Threads) -> None:
    found = trace(ls.CDSGD(ls.Ring()), PROBLEM, 40, on=on, optimizer=ls.Nesterov(RATE, 0.7))
    assert difference(replicas(found.points), consensus_sgd(RING_OF_4, 40, 0.7)[:-1]) < EQUAL


def test_cdmsgd_with_heavy_ball_is_the_plain_form() -> None:
    found = trace(ls.CDSGD(ls.Ring()), PROBLEM, 40, optimizer=ls.Momentum(RATE, 0.7))
    assert difference(replicas(found.points), consensus_sgd(RING_OF_4, 40, 0.7, "plain")[:-1]) < EQUAL


def test_cdmsgd_without_momentum_is_cdsgd_bit_for_bit() -> None:
    found = trace(ls.CDSGD(ls.Ring()), PROBLEM, 40, optimizer=ls.Nesterov(RATE, 0.0))
    assert (found.replicas == trace(ls.CDSGD(ls.Ring()), PROBLEM, 40).replicas).all()


def test_mixing_with_all_gives_the_mean_of_centralised_sgd_where_curvatures_agree() -> None:
    problem = quadratics(alike=True)
    found = trace(ls.CDSGD(ls.Complete()), problem, 40, every=1)
    central = trace(ls.AllReduceSGD(), problem, 40, every=1)
    assert difference(found.centers, central.centers) < EQUAL


def test_mixing_with_all_is_centralised_sgd_where_all_gradients_are_at_one_point() -> None:
    problem = homogeneous(np.array([0.2, 0.5, 1.0]), 4)
    found = trace(ls.CDSGD(ls.Complete()), problem, 40)
    central = trace(ls.AllReduceSGD(), problem, 40)
    assert difference(replicas(found.points), replicas(central.points)) < EQUAL


def test_the_first_step_of_mixing_with_all_is_that_of_centralised_sgd_in_the_mean() -> None:
    found, central = (trace(s, PROBLEM, 1).center for s in (ls.CDSGD(ls.Complete()), ls.AllReduceSGD()))
    assert difference(found, central) < EQUAL


@pytest.mark.parametrize("on", TRANSPORTS, ids=repr)
def test_mixing_with_nobody_is_independent_sgd(on: ls.Threads) -> None:
    found = trace(ls.CDSGD(Alone()), PROBLEM, 40, on=on)
    for rank in range(4):
        assert difference(found.points[rank], sgd(PROBLEM, rank, 40)[:-1]) < EQUAL


@pytest.mark.parametrize("topology", [ls.Ring(), ls.Torus(), ls.Complete()], ids=repr)
def test_the_mean_moves_by_the_mean_gradient(topology: ls.Topology) -> None:
    points = replicas(trace(ls.CDSGD(topology), PROBLEM, 40).points)
    means = points.mean(axis=1)
    gradients = np.array([PROBLEM.gradients(x).mean(axis=0) for x in points])
    assert difference(means[1:], means[:-1] - RATE * gradients[:-1]) < EQUAL


@pytest.mark.parametrize("workers", [4, 5, 6, 8])
@pytest.mark.parametrize("topology", [ls.Ring(), ls.Torus(), ls.Complete()], ids=repr)
def test_without_gradients_the_mean_rests_and_the_spread_contracts(topology: ls.Topology, workers: int) -> None:
    apart = ls.SGD(lambda step: RATE if step < 3 else 0.0)
    found = trace(ls.CDSGD(topology), quadratics(workers), 15, optimizer=apart)
    points = replicas(found.points)[3:]
    means = points.mean(axis=1)
    assert difference(means, np.tile(means[0], (12, 1))) < EQUAL
    spread = np.linalg.norm((points - means[:, None]).reshape(12, -1), axis=1)
    assert spread[0] > 0.1
    eigenvalues = np.sort(np.linalg.eigvalsh(topology.matrix(workers)))
    factor = max(abs(eigenvalues[0]), abs(eigenvalues[-2]))
    assert (spread[1:] <= factor * spread[:-1] + EQUAL).all()


def test_a_ring_contracts_its_slowest_mode_by_exactly_lambda_2() -> None:
    apart = ls.SGD(lambda step: RATE if step < 1 else 0.0)
    found = trace(ls.CDSGD(ls.Ring()), quadratics(8), 60, optimizer=apart)
    points = replicas(found.points)
    spread = np.linalg.norm((points - points.mean(axis=1, keepdims=True)).reshape(60, -1), axis=1)
    assert spread[50] / spread[49] == pytest.approx((1 + 2 * np.cos(2 * np.pi / 8)) / 3, rel=1e-6)


# --- where it settles, and where it does not -----------------------------------------------------------------


def test_the_smallest_eigenvalues_of_rings_are_those_published() -> None:
    assert lambda_min(ls.Ring(), 4) == pytest.approx(-1 / 3)
    assert lambda_min(ls.Ring(), 6) == pytest.approx(-1 / 3)
    assert lambda_min(ls.Ring(), 5) == pytest.approx(-0.206, abs=5e-4)


def lambda_min(topology: ls.Topology, workers: int) -> float:
    return float(np.linalg.eigvalsh(topology.matrix(workers))[0])


@pytest.mark.parametrize("workers", [4, 5, 6, 9])
@pytest.mark.parametrize("topology", [ls.Ring(), ls.Torus(), ls.Complete()], ids=repr)
def test_it_is_stable_up_to_eta_h_1_plus_lambda_min(topology: ls.Topology, workers: int) -> None:
    problem = homogeneous(around(1 + lambda_min(topology, workers)), workers, spread=1.0)
    found = trace(ls.CDSGD(topology), problem, 240, optimizer=ls.SGD(1.0))
    assert changes_sides(np.diff(found.points[0], axis=0))


def settled(rate: float) -> Array:
    """Minimises V(x) = sum f_i(x_i) + x^T (I - W) x / (2 eta), coordinate by coordinate."""
    pull = (np.eye(4) - RING_OF_4) / rate
    columns = zip(PROBLEM.curvatures.T, PROBLEM.minima.T, strict=True)
    return np.array([np.linalg.solve(pull + np.diag(h), h * b) for h, b in columns]).T


def test_it_settles_at_the_minimiser_of_its_own_objective() -> None:
    found = trace(ls.CDSGD(ls.Ring()), PROBLEM, 400)
    assert difference(found.replicas, settled(RATE)) < 1e-11


def test_its_bias_shrinks_with_the_step_size() -> None:
    optimum = (PROBLEM.curvatures * PROBLEM.minima).sum(axis=0) / PROBLEM.curvatures.sum(axis=0)
    bias = [difference(settled(rate).mean(axis=0), optimum) for rate in (RATE, RATE / 10)]
    found = trace(ls.CDSGD(ls.Ring()), PROBLEM, 3000, optimizer=ls.SGD(RATE / 10))
    assert difference(found.center, optimum) == pytest.approx(bias[1], abs=1e-10)
    assert bias[0] > 1e-2
    assert bias[1] < 0.2 * bias[0]
