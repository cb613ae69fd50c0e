"""Graphs of the user's, random graphs, and the numbers that the literature gives for graphs."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi
from typing import Any

import networkx as nx
import numpy as np
import pytest

import loosestep as ls
from loosestep.topologies.base import metropolis

CHORD = nx.Graph([(0, 1), (1, 2), (2, 3), (3, 0), (0, 2)])


def test_second_eigenvalues_are_those_published() -> None:
    for n, second in ((4, 0.333), (8, 0.805), (16, 0.949), (32, 0.987)):
        gap = ls.Ring().gap(n)
        assert gap is not None
        assert 1 - gap == pytest.approx(second, abs=5e-4)
        assert 1 - gap == pytest.approx((1 + 2 * cos(2 * pi / n)) / 3)
    for n in (4, 6, 8, 12, 32):
        known = (n - 1).bit_length()
        assert ls.StaticExponential().gap(n) == pytest.approx(2 / (known + 1))


@pytest.mark.parametrize("n", [8, 9])
def test_pairs_come_together_as_their_formula_says(n: int) -> None:
    """Of 4,000 draws; the mean of W^T W is that of W, a projection."""
    mixing = np.mean([ls.RandomMatching().matrix(n, step) for step in range(4000)], axis=0)
    second = np.sort(np.linalg.eigvalsh(mixing))[-2]
    gap = ls.RandomMatching().gap(n)
    assert gap is not None
    assert 1 - second == pytest.approx(gap, abs=0.02)


def test_random_graphs_are_drawn_by_their_seed() -> None:
    for kind in (ls.RandomRegular, ls.ErdosRenyi, ls.RandomMatching):
        first, again, other = (kind(seed=seed).matrix(16, 5) for seed in (1, 1, 2))
        assert (first == again).all()
        assert (first != other).any()
    degrees = (ls.RandomRegular(3).matrix(32) > 0).sum(axis=1)
    assert (degrees == 4).all()
    assert ls.RandomRegular(4).spectral_gap(64) > 4 * ls.Ring().spectral_gap(64)
    mean = (ls.ErdosRenyi(0.3).matrix(60) > 0).sum() / 60 - 1
    assert mean == pytest.approx(0.3 * 59, rel=0.15)
    assert [len(mates) for mates in np.split(ls.RandomMatching(group=3).matrix(8), 8)] == [1] * 8


def test_a_graph_that_cannot_be_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"RandomRegular\(neighbours=3\) serves even numbers of workers and up to 4, got 5"
    ):
        ls.RandomRegular(3).matrix(5)
    with pytest.raises(
        ValueError, match=r"^probability must be larger for 40 workers, got 0.01: none of 100 draws"
    ):
        ls.ErdosRenyi(0.01).matrix(40)
    with pytest.raises(ValueError, match=r"HierarchicalRing\(\) serves multiples of its group, got 5"):
        ls.HierarchicalRing().matrix(5)
    with pytest.raises(TypeError, match=r"^topology must be a Topology, got <class .*, did you mean Ring\(\)\?$"):
        ls.Lazy(ls.Ring)  # type: ignore[arg-type]


def test_a_networkx_graph_has_metropolis_weights() -> None:
    graph = ls.Graph(CHORD)
    assert repr(graph) == "Graph(((1, 2, 3), (0, 2), (0, 1, 3), (0, 2)))"
    assert (graph.stochastic, graph.symmetric, graph.size) == ("doubly", True, 4)
    assert graph.matrix(4)[0] == pytest.approx([0.25, 0.25, 0.25, 0.25])
    assert graph.matrix(4)[1] == pytest.approx([0.25, 0.5, 0.25, 0.0])
    assert metropolis(((1,), (0, 2), (1,)), 1) == pytest.approx({0: 1 / 3, 2: 1 / 3, 1: 1 / 3})
    named = nx.relabel_nodes(CHORD, dict(enumerate("abcd")))
    assert ls.Graph(named) == graph
    lazy = ls.Graph(CHORD, lazy=True)
    assert np.abs(lazy.matrix(4) - (np.eye(4) + graph.matrix(4)) / 2).max() < 1e-15
    assert lazy.smallest_eigenvalue(4) == pytest.approx((1 + graph.smallest_eigenvalue(4)) / 2)


def test_a_directed_graph_pushes_and_a_matrix_says_what_it_is() -> None:
    graph = ls.Graph(nx.DiGraph([(0, 1), (1, 2), (2, 0), (0, 2)]))
    assert (graph.stochastic, graph.symmetric) == ("column", False)
    assert graph.matrix(3)[:, 0] == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    assert graph.readers(0, 3, 0) == (1, 2)
    assert ls.Graph(graph.matrix(3).T).stochastic == "row"
    ring = ls.Graph(ls.Ring().matrix(5))
    assert (ring.stochastic, ring.symmetric) == ("doubly", True)
    assert np.abs(ring.matrix(5) - ls.Ring().matrix(5)).max() == 0
    assert ls.SGP(graph).cost(3, 10) == (4 / 3 * 11, 4 / 3, 0)


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ([], ValueError, "graph must have at least 1 node, got none"),
        (7, TypeError, "graph must be a networkx graph, a square matrix or rows of ranks, got 7"),
        ([[0.5, 0.4], [0.5, 0.5]], ValueError, "that miss it by 0.1 and columns that miss it by 0.1"),
        ([[1.5, -0.5], [-0.5, 1.5]], ValueError, "finite weights of at least 0, got -0.5 .. 1.5"),
        ([[0.2, 0.3, 0.5]], ValueError, "must be square or have rows shorter than 1, got one of 3"),
        ([[1], [0, 2], [5]], ValueError, "graph[2] must be below 3, the number of workers, got 5"),
        ([[1], [1], [0]], ValueError, "graph[1] must name other ranks, each once, got (1,)"),
        ([[1], [0.5], [0]], TypeError, "graph[1] must be an integer, got 0.5"),
    ],
)
def test_what_is_no_graph_is_refused(given: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error) as caught:
        ls.Graph(given)
    assert told in str(caught.value)


@dataclass(frozen=True, repr=False)
class Wrong(ls.Topology):
    """Rows sum to 0.9, and worker 1 is read by nobody."""

    symmetric = True

    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        return {0: 0.4, rank: 0.5} if rank else {0: 0.9}

    def readers(self, rank: int, size: int, step: int) -> tuple[int, ...]:
        return () if rank else tuple(range(1, size))


def test_what_is_wrong_with_a_graph_is_said_with_numbers() -> None:
    assert ls.DPSGD(Wrong()).warnings(3) == [
        "rows of Wrong() must sum to 1, and one sums to 0.9",
        "columns of Wrong() must sum to 1, and one sums to 1.7",
        "Wrong() must be symmetric, and weights differ by 0.4 from those back",
        "Wrong() of 3 workers is not connected: they do not come to one consensus",
    ]
    apart = ls.Graph(nx.Graph([(0, 1), (2, 3)]))
    (told,) = ls.CDSGD(apart).warnings(4)
    assert told.endswith("of 4 workers is not connected: they do not come to one consensus")
    with pytest.raises(ValueError, match=r"^topology must be symmetric: whoever reads is read, got StaticExp"):
        ls.GASLoC(ls.StaticExponential())
