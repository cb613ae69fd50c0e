"""D-PSGD and its relatives: recursions, limits, where they rest, and what is conserved."""

from __future__ import annotations

from math import log

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
    trace,
)

import loosestep as ls

PROBLEM = quadratics()
RING = ls.Ring().matrix(4)
CHANGING = ls.OnePeerExponential()
MINIMUM = (PROBLEM.curvatures * PROBLEM.minima).sum(axis=0) / PROBLEM.curvatures.sum(axis=0)
APART = ls.SGD(lambda step: RATE if step < 3 else 0.0)


def pair(smallest: float) -> ls.Graph:
    """Two workers whose W has this eigenvalue besides 1."""
    return ls.Graph((((1 + smallest) / 2, (1 - smallest) / 2), ((1 - smallest) / 2, (1 + smallest) / 2)))


def points_of(strategy: ls.Strategy, steps: int = 30, **options: object) -> Array:
    return np.stack(trace(strategy, PROBLEM, steps, **options).points, axis=1)  # type: ignore[arg-type]


# --- recursions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on", [in_turn(4), ls.Threads(4)], ids=repr)
def test_d_psgd_adapts_first_on_a_graph_that_changes(on: ls.Threads) -> None:
    x, found = PROBLEM.starts(), points_of(ls.DPSGD(CHANGING, "adapt"), on=on)
    for step in range(30):
        assert difference(found[step], x) < EQUAL
        x = CHANGING.matrix(4, step) @ (x - RATE * PROBLEM.gradients(x))


def test_momentum_that_is_mixed() -> None:
    x, found = PROBLEM.starts(), points_of(ls.DPSGD(ls.Ring(), momentum="mix"), optimizer=ls.Momentum(RATE, 0.7))
    v = np.zeros_like(x)
    for step in range(30):
        assert difference(found[step], x) < EQUAL
        v = 0.7 * v - RATE * PROBLEM.gradients(x)
        x, v = RING @ x + v, RING @ v


def test_i_cdsgd_mixes_by_the_power() -> None:
    x, found = PROBLEM.starts(), points_of(ls.CDSGD(ls.Ring(), rounds=3))
    for step in range(30):
        assert difference(found[step], x) < EQUAL
        x = np.linalg.matrix_power(RING, 3) @ x - RATE * PROBLEM.gradients(x)


def test_g_cdsgd_trades_gradients_for_consensus() -> None:
    x, found = PROBLEM.starts(), points_of(ls.CDSGD(ls.Ring(), trade_off=0.3))
    for step in range(30):
        assert difference(found[step], x) < EQUAL
        x = 0.7 * (x - RATE * PROBLEM.gradients(x)) + 0.3 * RING @ x


def test_cdmsgd_of_the_paper_takes_gradients_ahead() -> None:
    """The release mixes look-ahead points: another sequence, which is `Nesterov` inside."""
    found, release = points_of(ls.CDSGD(momentum=0.7)), points_of(ls.CDSGD(), optimizer=ls.Nesterov(RATE, 0.7))
    x = PROBLEM.starts()
    v = np.zeros_like(x)
    for step in range(30):
        assert difference(found[step], x + 0.7 * v) < EQUAL
        v = 0.7 * v - RATE * PROBLEM.gradients(x + 0.7 * v)
        x = RING @ x + v
    assert difference(found, release) > 0.01


def test_d2_in_the_form_of_the_paper() -> None:
    """x(1) = W (x(0) - eta g(0)), x(t+1) = W (2 x(t) - x(t-1) - eta g(t) + eta g(t-1)), also where eta changes."""
    rates = [RATE / (1 + step // 5) for step in range(30)]
    found = points_of(ls.D2(), optimizer=ls.SGD(lambda step: rates[step]))
    mixing = (np.eye(4) + RING) / 2
    before, x = PROBLEM.starts(), mixing @ (PROBLEM.starts() - RATE * PROBLEM.gradients(PROBLEM.starts()))
    for step in range(1, 30):
        assert difference(found[step], x) < EQUAL
        moved = rates[step - 1] * PROBLEM.gradients(before) - rates[step] * PROBLEM.gradients(x)
        before, x = x, mixing @ (2 * x - before + moved)


@pytest.mark.parametrize("topology", [ls.Ring(), CHANGING], ids=repr)
def test_gradient_tracking_follows_the_mean_gradient(topology: ls.Topology) -> None:
    x, found = PROBLEM.starts(), points_of(ls.GradientTracking(topology))
    q = PROBLEM.gradients(x)
    for step in range(29):
        assert difference(found[step], x) < EQUAL
        assert difference(q.mean(axis=0), PROBLEM.gradients(x).mean(axis=0)) < EQUAL
        before, x = x, topology.matrix(4, step) @ x - RATE * q
        q = topology.matrix(4, step + 1) @ q + PROBLEM.gradients(x) - PROBLEM.gradients(before)


def test_decent_lam_counts_mixing_as_gradient() -> None:
    rates = [RATE / (1 + step // 7) for step in range(30)]
    x, found = PROBLEM.starts(), points_of(ls.DecentLaM(momentum=0.7), optimizer=ls.SGD(lambda step: rates[step]))
    m = np.zeros_like(x)
    for step, rate in enumerate(rates):
        assert difference(found[step], x) < EQUAL
        m = 0.7 * m + (x - RING @ (x - rate * PROBLEM.gradients(x))) / rate
        x = x - rate * m


# --- limits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("topology", [ls.Ring(), ls.Torus()], ids=repr)
def test_adapting_first_is_stable_up_to_eta_h_2_on_any_graph(topology: ls.Topology) -> None:
    problem = homogeneous(around(2.0), 4, spread=1.0)
    found = trace(ls.DPSGD(topology, "adapt"), problem, 240, optimizer=ls.SGD(1.0))
    assert changes_sides(np.diff(found.points[0], axis=0))


@pytest.mark.parametrize(("smallest", "limit"), [(-1 / 3, 2 / 9), (1 / 3, 8 / 9)])
def test_gradient_tracking_is_stable_up_to_half_the_square_of_1_and_an_eigenvalue(
    smallest: float, limit: float
) -> None:
    problem = homogeneous(around(limit), 2, spread=1.0)
    found = trace(ls.GradientTracking(pair(smallest)), problem, 320, optimizer=ls.SGD(1.0))
    assert changes_sides(found.points[0] - found.points[1])
    assert limit == pytest.approx((1 + smallest) ** 2 / 2)


@pytest.mark.parametrize("smallest", [-1 / 3, 1 / 3])
def test_gradient_tracking_spreads_the_noise_of_gradients_farther_than_d_psgd(smallest: float) -> None:
    """Gradients that are noise alone: the run is the recursion, and the variance of it as the docstring has it."""
    steps, size = 60, 4000
    noise = np.random.default_rng(3).standard_normal((2, steps, size))
    w = pair(smallest).matrix(2, 0)
    x, q, before = np.zeros((2, size)), np.zeros((2, size)), np.zeros((2, size))
    spreads = []
    for strategy in (ls.GradientTracking(pair(smallest)), ls.DPSGD(pair(smallest))):
        batches = lambda rank, size: iter(noise[rank])  # noqa: E731
        options = {"optimizer": ls.SGD(0.5), "on": in_turn(2)}
        result = ls.run(strategy, lambda x, batch: batch, np.zeros(size), batches, **options)
        replicas = np.array([worker.params for worker in result.workers])
        spreads.append(np.var(replicas[0] - replicas[1]))
        if isinstance(strategy, ls.GradientTracking):
            for step in range(steps):
                q = w @ q + noise[:, step] - before
                x, before = w @ x - 0.5 * q, noise[:, step]
            assert difference(replicas, x) < EQUAL
    assert spreads[0] / spreads[1] == pytest.approx(2 / (1 + smallest) ** 2, rel=0.1)


@pytest.mark.parametrize(("smallest", "settles"), [(-0.3, True), (-0.4, False)])
def test_d2_settles_above_minus_a_third(smallest: float, settles: bool) -> None:
    problem = homogeneous(np.array([1.0]), 2, spread=1.0)
    found = trace(ls.D2(pair(smallest)), problem, 300, optimizer=ls.SGD(0.02))
    apart = np.abs(found.points[0] - found.points[1])
    assert (apart[-1].max() < 0.05 * apart[5].max()) == settles
    assert settles or apart[-1].max() > 100
    assert bool(ls.D2(pair(smallest)).warnings(2)) != settles


def test_d2_says_the_numbers_where_it_will_not_settle() -> None:
    assert ls.D2(ls.Ring()).warnings(6) == [
        "the smallest eigenvalue of W must be above -1/3, and is -0.3333 for 6 workers: it does not settle, at "
        "any learning rate; topology=Lazy(Ring()) has 0.3333"
    ]
    assert not ls.D2(ls.Ring()).warnings(5)  # -0.206
    assert not any(ls.D2().warnings(n) for n in range(1, 20))
    (told,) = ls.D2(ls.StaticExponential()).warnings(8)
    assert told.startswith("W must be symmetric and stay as it is")
    (told,) = ls.ElasticGossip(ls.Ring(), moving_rate=0.5).warnings(8)
    assert told.startswith("moving_rate must be below 0.5 for 8 workers, and is 0.5")
    assert not ls.ElasticGossip(ls.Ring(), moving_rate=0.49).warnings(8)
    assert ls.ElasticGossip(moving_rate=1.0).warnings(4)
    assert not ls.ElasticGossip(moving_rate=0.99).warnings(4)


# --- where they rest -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "strategy", [ls.D2(), ls.GradientTracking(), ls.GradientTracking(ls.StaticExponential())], ids=repr
)
def test_they_rest_at_the_minimum_of_the_sum_where_d_psgd_does_not(strategy: ls.Strategy) -> None:
    found, biased = (trace(each, PROBLEM, 500, optimizer=ls.SGD(0.2)) for each in (strategy, ls.DPSGD()))
    assert difference(found.replicas, np.tile(MINIMUM, (4, 1))) < 1e-10
    assert difference(biased.center, MINIMUM) > 1e-3
    assert np.abs(biased.replicas - biased.center).max() > 1e-2


def test_decent_lams_bias_does_not_depend_on_momentum() -> None:
    optimizer = ls.SGD(0.02)
    found = [
        trace(ls.DecentLaM(momentum=mu), PROBLEM, 4000, optimizer=optimizer).replicas for mu in (0.0, 0.5, 0.8)
    ]
    assert difference(found[0], found[1]) < 1e-9
    assert difference(found[0], found[2]) < 1e-9
    assert np.abs(found[0] - MINIMUM).max() > 1e-4


def test_momentum_inside_d_psgd_multiplies_its_bias() -> None:
    bias = [
        np.abs(trace(ls.DPSGD(), PROBLEM, steps, optimizer=ls.Momentum(0.01, mu)).replicas - MINIMUM).max()
        for steps, mu in ((2000, 0.0), (1000, 0.5), (400, 0.8))
    ]
    assert bias[1] / bias[0] == pytest.approx(2.0, rel=0.1)
    assert bias[2] / bias[0] == pytest.approx(5.0, rel=0.2)


# --- what is conserved ---------------------------------------------------------------------------------------

FIXED = [
    ls.Star(),
    ls.Hypercube(),
    ls.StaticExponential(),
    ls.RandomRegular(),
    ls.ErdosRenyi(),
    ls.Lazy(ls.Ring()),
    ls.Graph(tuple(map(tuple, ls.Torus().matrix(8).tolist()))),
]


@pytest.mark.parametrize(
    "topology", [*FIXED, ls.RandomMatching(), ls.HierarchicalRing()], ids=lambda t: repr(t)[:20]
)
def test_without_gradients_the_mean_rests(topology: ls.Topology) -> None:
    points = np.stack(trace(ls.DPSGD(topology), quadratics(8), 12, optimizer=APART).points, axis=1)[3:]
    assert difference(points.mean(axis=1), np.tile(points[0].mean(axis=0), (9, 1))) < EQUAL
    assert np.ptp(points[-1], axis=0).max() < np.ptp(points[0], axis=0).max()


@pytest.mark.parametrize("topology", [each for each in FIXED if each.symmetric], ids=lambda t: repr(t)[:20])
def test_workers_come_together_by_the_second_eigenvalue(topology: ls.Topology) -> None:
    found = trace(ls.DPSGD(topology), quadratics(8), 70, optimizer=APART)
    points = np.stack(found.points, axis=1)
    spread = np.linalg.norm((points - points.mean(axis=1, keepdims=True)).reshape(70, -1), axis=1)
    known = topology.gap(8)
    gap = topology.spectral_gap(8) if known is None else known
    place = min(66, int(log(1e-8) / log(1 - gap)))  # before rounding
    assert spread[place] / spread[place - 1] == pytest.approx(1 - gap, rel=1e-3)


@pytest.mark.parametrize(
    "strategy",
    [
        ls.ElasticGossip(period=1),
        ls.ElasticGossip(ls.Star(), 1),
        ls.NoLoCo(period=1, rate=1.0, momentum=0.0),
        ls.GASLoC(ls.Star(), 1, 1.0, momentum=0.0),
        ls.D2(),
        ls.DecentLaM(momentum=0.0),
    ],
    ids=repr,
)
def test_the_mean_moves_by_the_mean_gradient(strategy: ls.Strategy) -> None:
    points = points_of(strategy)
    moved = np.diff(points.mean(axis=1), axis=0)
    expected = np.array([-RATE * PROBLEM.gradients(x).mean(axis=0) for x in points[:-1]])
    assert difference(moved, expected) < EQUAL


# --- outer optimizers on graphs ------------------------------------------------------------------------------


def rounds_of(x: Array, period: int) -> Array:
    """Where local steps lead."""
    for _ in range(period):
        x = x - RATE * PROBLEM.gradients(x)
    return x


def test_noloco_with_both_terms_of_its_release() -> None:
    """m <- mu m + r mean(x - phi) + r (mean(phi) - phi), in pairs."""
    topology, found = ls.RandomMatching(seed=3), points_of(ls.NoLoCo(ls.RandomMatching(seed=3), 3, 0.7, 0.4))
    slow = PROBLEM.starts()
    m = np.zeros_like(slow)
    for number in range(10):
        assert difference(found[3 * number], slow) < EQUAL
        mixing, x = topology.matrix(4, number), rounds_of(slow, 3)
        m = 0.4 * m + 0.7 * mixing @ (x - slow) + 0.7 * (mixing @ slow - slow)
        slow = slow + m


def test_gasloc_as_published() -> None:
    """y = x + eta D; x = y - alpha L y + gamma (y - y of the round before)."""
    strategy = ls.GASLoC(ls.Ring(), 3, 0.7, 0.25, 0.4)
    laplacian = 3 * (np.eye(4) - RING)
    x, found = PROBLEM.starts(), points_of(strategy)
    before = x
    for number in range(10):
        assert difference(found[3 * number], x) < EQUAL
        y = x + 0.7 * (rounds_of(x, 3) - x)
        x, before = y - 0.25 * laplacian @ y + 0.4 * (y - before), y
