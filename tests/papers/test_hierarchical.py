"""Two methods in two levels: clusters of different sizes and speeds, hosts, centers, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.contract.test_resuming import CRASHES, check_crashes
from tests.papers.problems import EQUAL, RATE, Array, difference, in_turn, quadratics, trace

import loosestep as ls

PROBLEM = quadratics()
TOWNS = (("Basel", 3), ("Bern", 1))
S_SGD = ls.AllReduceSGD()


def cluster_steps(c: Array, members: tuple[int, ...], steps: int) -> Array:
    """Mini-batch steps of a cluster."""
    for _ in range(steps):
        c = c - RATE * np.mean([PROBLEM.gradient(c, rank) for rank in members], axis=0)
    return c


def test_clusters_of_different_sizes_are_workers_of_diloco() -> None:
    """A cluster counts by its samples: one of three workers three times as much as one of one."""
    c, u = PROBLEM.start, np.zeros(5)
    for _ in range(9):
        ends = [cluster_steps(c, members, 4) for members in ((0, 1, 2), (3,))]
        d = c - (3 * ends[0] + ends[1]) / 4
        u = 0.5 * u + d
        c = c - 0.7 * (d + 0.5 * u)
    strategy = ls.Hierarchical(S_SGD, ls.DiLoCo(4, 0.7, 0.5), TOWNS)
    for on in (in_turn(4), ls.Threads(4)):
        found = trace(strategy, PROBLEM, 36, on=on)
        assert difference(found.center, c) < EQUAL
        assert difference(found.replicas, np.tile(c, (4, 1))) < EQUAL


def test_clusters_of_different_speeds_do_not_wait_for_each_other() -> None:
    """A worker of the second is 2.5 times as slow: in 20 seconds 5 exchanges of the one, 2 of the other."""
    on = ls.Metered(
        ls.Simulated(4, 1.0, latency=0.0, bandwidth=np.inf, stragglers=ls.stragglers.SlowWorker(3, 2.5))
    )
    clusters, center = [(0, 1), (2, 3)], PROBLEM.start
    x = [PROBLEM.start, PROBLEM.start]
    arrivals = sorted([(4.0 * k, 0) for k in range(1, 11)] + [(10.0 * k, 1) for k in range(1, 11)])
    for _, k in arrivals:
        x[k] = cluster_steps(x[k], clusters[k], 4)
        d = 0.3 * (x[k] - center)
        x[k], center = x[k] - d, center + d
    strategy = ls.Hierarchical(S_SGD, ls.EASGD(4, 0.3), clusters=2)
    found = trace(strategy, PROBLEM, 40, on=on)  # type: ignore[arg-type]
    assert difference(found.center, center) < EQUAL
    assert difference(found.replicas, np.array([x[0], x[0], x[1], x[1]])) < EQUAL


def test_workers_of_a_cluster_that_do_not_march_meet_at_each_exchange() -> None:
    """Asynchronous within: the cluster's center is what goes between, and where all its workers begin again."""
    local, c = [PROBLEM.start, PROBLEM.start], PROBLEM.start
    for _ in range(5):
        for k, members in enumerate(((0, 1), (2, 3))):
            pulled = [c, c]
            local[k] = c
            for _ in range(4):
                for i, rank in enumerate(members):  # in turn
                    x = pulled[i] - RATE * PROBLEM.gradient(pulled[i], rank)
                    local[k] = local[k] + (x - pulled[i])
                    pulled[i] = local[k]
        c = (local[0] + local[1]) / 2
    strategy = ls.Hierarchical(ls.Downpour(1), ls.LocalSGD(4), clusters=2)
    found = trace(strategy, PROBLEM, 20)
    assert difference(found.center, c) < EQUAL
    assert difference(found.replicas, np.tile(c, (4, 1))) < EQUAL


@pytest.mark.parametrize(
    "within", [ls.DiLoCo(2, 0.7, 0.5), ls.DaSGD(2, 1), ls.SyncEASGD(2), ls.EASGD(2)], ids=repr
)
@pytest.mark.parametrize(
    "between", [ls.DiLoCo(4, 0.7, 0.4), ls.CoCoDSGD(4), ls.AsyncLocalSGD(4), ls.SSP(3)], ids=repr
)
def test_any_two_find_the_minimum_of_all(within: ls.Strategy, between: ls.Strategy) -> None:
    alike = quadratics(4, 5, alike=True)
    strategy = ls.Hierarchical(within, between, clusters=2)
    found = trace(strategy, alike, 200, optimizer=ls.SGD(0.04))
    assert difference(found.center, alike.minima.mean(axis=0)) < 0.25, "of minima 1 to 3 apart"


def test_without_clusters_they_are_the_hosts_and_seldom_wait_for_their_link() -> None:
    on = ls.Simulated(4, 0.01, hosts=[3, 1], latency=0.1, bandwidth=1e6)
    strategy = ls.Hierarchical(S_SGD, ls.LocalSGD(4))
    given = ls.Hierarchical(S_SGD, ls.LocalSGD(4), TOWNS)
    one, other = (trace(each, PROBLEM, 8, on=on) for each in (strategy, given))
    assert (one.center == other.center).all()
    seconds = 8 * 0.01 + 2 * 0.1
    assert seconds <= one.result.seconds < 1.01 * seconds, "two averages, each one message between the hosts"
    assert trace(S_SGD, PROBLEM, 8, on=on).result.seconds > 8 * 0.1
    alone = trace(strategy, PROBLEM, 8, on=ls.Threads(4))
    assert (alone.center == trace(S_SGD, PROBLEM, 8, on=ls.Threads(4)).center).all(), "one host is one cluster"


@pytest.mark.parametrize(
    "strategy",
    [
        ls.Hierarchical(ls.DaSGD(2, 1), ls.CoCoDSGD(4), clusters=2),
        ls.Hierarchical(ls.SlowMo(2), ls.StreamingDiLoCo(4, 1, 4, codec=ls.E3M0()), clusters=2),
        ls.Hierarchical(ls.CDSGD(), ls.AsyncLocalSGD(3), clusters=(("a", 1), ("b", 2))),
        ls.Hierarchical(ls.Downpour(2), ls.EASGD(4), clusters=2),
    ],
    ids=repr,
)
def test_what_is_in_flight_on_both_levels_outlives_a_crash(strategy: ls.Strategy, tmp_path: Path) -> None:
    on = ls.Simulated(3, stragglers=ls.stragglers.LogNormal(0.5), latency=2e-4)
    check_crashes(strategy, on, tmp_path, CRASHES[::3], seed=5)


def test_what_cannot_be_a_level_is_refused() -> None:
    for between in (ls.CDSGD(), S_SGD, ls.DaSGD(4, 2), ls.DecoupledDiLoCo(4), ls.LocalSGD(4, steps=(1, 2))):
        with pytest.raises(
            ValueError, match="between must be a method whose rounds are local steps of all its wor"
        ):
            trace(ls.Hierarchical(S_SGD, between, clusters=2), PROBLEM, 8)
    for level in (ls.Hogwild(), ls.DBS(), ls.FedAvg(fraction=0.5), ls.Stages.example()):
        with pytest.raises(ValueError, match="must be of one stage, share no memory and deal no batches"):
            ls.Hierarchical(within=level)
        with pytest.raises(ValueError, match="^between must be of one stage"):
            ls.Hierarchical(between=level)
    with pytest.raises(TypeError, match="within must be a Strategy, got <class .*AllReduceSGD'>, did you mean"):
        ls.Hierarchical(ls.AllReduceSGD)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="clusters must have 4 workers in all, got 3"):
        trace(ls.Hierarchical(clusters=(("a", 3),)), PROBLEM, 8)
