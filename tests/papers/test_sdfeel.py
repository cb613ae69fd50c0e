"""SD-FEEL: a mixing matrix with negative entries, the mean by shares, clusters that do not wait."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from tests.papers.problems import (
    EQUAL,
    RATE,
    Array,
    difference,
    homogeneous,
    in_turn,
    quadratics,
    rank_forever,
    trace,
)

import loosestep as ls

UNEVEN = (0.05, 0.4, 0.1, 0.4, 0.05)
GRAPHS = [ls.Ring(), ls.Star(), ls.Complete(), ls.Graph(nx.path_graph(5))]


@pytest.mark.parametrize("topology", GRAPHS, ids=lambda graph: repr(graph)[:12])
def test_the_matrix_conserves_the_mean_by_shares_and_comes_to_it(topology: ls.Topology) -> None:
    shares = np.array(UNEVEN)
    rows = np.array(topology.share_weighted(5, UNEVEN))
    assert difference(rows.sum(axis=1), np.ones(5)) < EQUAL
    assert difference(shares @ rows, shares) < EQUAL
    assert difference(np.linalg.matrix_power(rows, 4000), np.tile(shares, (5, 1))) < 1e-9
    laplacian = np.diag((topology.matrix(5) > 0).sum(axis=1)) - (topology.matrix(5) > 0)
    eigenvalues = np.sort(np.linalg.eigvals(laplacian / shares).real)
    second = np.sort(np.abs(np.linalg.eigvals(rows)))[-2]
    assert second == pytest.approx((eigenvalues[-1] - eigenvalues[1]) / (eigenvalues[-1] + eigenvalues[1]))


def test_its_entries_may_be_negative() -> None:
    assert np.array(ls.Ring().share_weighted(5, UNEVEN)).min() < -0.1
    equal = np.array(ls.Complete().share_weighted(5, (0.2,) * 5))
    assert difference(equal, np.full((5, 5), 0.2)) < EQUAL
    assert ls.Ring().share_weighted(1, (1.0,)) == [[1.0]]


@pytest.mark.parametrize("on", [in_turn(9), ls.Threads(9)], ids=repr)
def test_clusters_average_and_their_servers_gossip(on: ls.Threads) -> None:
    """Five clusters, the last of one worker; every second average is followed by three rounds of gossip."""
    problem = quadratics(9)
    strategy = ls.SDFEEL(ls.Ring(), 2, 3, 2, 3, UNEVEN)
    found = trace(strategy, problem, 24, on=on)
    rows = np.linalg.matrix_power(np.array(ls.Ring().share_weighted(5, UNEVEN)), 3)
    cluster = np.arange(9) // 2
    x = problem.starts()
    points = []
    for step in range(24):
        points.append(x)
        x = x - RATE * problem.gradients(x)
        if step % 3 == 2:
            y = np.array([x[cluster == place].mean(axis=0) for place in range(5)])
            before = np.array(UNEVEN) @ y
            y = rows @ y if step % 6 == 5 else y
            assert difference(np.array(UNEVEN) @ y, before) < EQUAL
            x = y[cluster]
    assert difference(np.stack(found.points, axis=1), np.array(points)) < EQUAL
    assert difference(found.center, np.array(UNEVEN) @ y) < EQUAL


def test_weights_fall_with_staleness_and_rows_sum_to_one() -> None:
    shares, fresh = [0.2, 0.3, 0.5], ls.SDFEEL.of_staleness(1, (0, 2), [4, 4, 4], [0.2, 0.3, 0.5])
    assert fresh == pytest.approx([0.3, 0.2, 0.5])
    late = ls.SDFEEL.of_staleness(1, (0, 2), [3, 4, 1], shares)  # one round behind, and three
    assert late == pytest.approx(np.array([0.3 / 2, 0.2 / 4, 0.5 / 8]) / (0.15 + 0.05 + 0.0625))
    ahead = ls.SDFEEL.of_staleness(1, (0, 2), [9, 4, 5], shares)
    assert ahead == pytest.approx(fresh)


def test_without_staleness_on_a_complete_graph_it_comes_where_the_synchronous_one_does() -> None:
    """Servers find what the others left in the round before: later, but at the same rest."""
    problem = homogeneous(np.ones(2), 4, spread=1.0)
    ends = [
        trace(ls.SDFEEL(ls.Complete(), 2, 1, 1, mode=mode), problem, 400, optimizer=ls.SGD(0.02)).center
        for mode in ("synchronous", "asynchronous")
    ]
    assert difference(ends[0], problem.minima.mean(axis=0)) < 2e-3
    assert difference(ends[1], problem.minima.mean(axis=0)) < 0.1


def test_clusters_of_other_speed_do_not_wait() -> None:
    slow = ls.Simulated(4, stragglers=ls.stragglers.SlowWorker(3, 4.0), step_time=1.0, latency=0.0)
    for mode, fewest, most in (("synchronous", 36, 40), ("asynchronous", 5, 15)):
        order: list[int] = []

        def gradient(x: Array, rank: int, order: list[int] = order) -> Array:
            order.append(rank)
            return x - rank

        ls.run(ls.SDFEEL(mode=mode), gradient, np.zeros(3), rank_forever, on=slow, steps=40)  # type: ignore[arg-type]
        seen = order[: len(order) - order[::-1].index(0)]  # when worker 0 has made its last step
        assert fewest <= seen.count(3) <= most, mode


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^shares must be of 2 clusters, got 3$"):
        trace(ls.SDFEEL(shares=(0.2, 0.3, 0.5)), quadratics(4), 3)
    with pytest.raises(ValueError, match=r"^topology must be symmetric: whoever reads is read, got OnePeer"):
        ls.SDFEEL(ls.OnePeerExponential())
