"""A graph of the user's: a networkx graph, a matrix, or the neighbours of every worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from loosestep.foundation import checks
from loosestep.topologies.base import EXACT, Sums, Topology, metropolis

Rows: TypeAlias = "tuple[tuple[float, ...], ...]"


@dataclass(frozen=True, repr=False)
class Graph(Topology):
    """A fixed graph of the user's, of as many workers as it has nodes.

    A graph without weights gets those of Metropolis if every edge goes both ways, w_ij = 1 / (1 + max(deg_i,
    deg_j)), which are symmetric and doubly stochastic; else each worker gives itself and all its readers equal
    shares, w_ij = 1 / (1 + outdegree_j), which is column-stochastic (for push-sum). Of a matrix it is found which
    sums are 1 and whether it is symmetric.

    graph: one of these. A networkx graph; worker i is node i where nodes are 0, ..., n-1, else the i-th node;
        weights of its edges do not count, and edges to oneself are left out. A square matrix W, w_ij being the
        weight with which i uses the value of j: any rows of numbers. Or for every worker the ranks that read it,
        rows shorter than n: ((1,), (0, 2), (1,)) is a chain of three. What is kept is the latter, or the rows.
    lazy: mixes by (I + W) / 2 instead.

    Raises ValueError for a matrix that is not square, not finite, has a negative weight, or whose rows and columns
    both have a sum that differs from 1 by more than 1e-9; TypeError for anything else.

    >>> import loosestep as ls, networkx as nx
    >>> chain = ls.Graph(nx.path_graph(3))
    >>> chain
    Graph(((1,), (0, 2), (1,)))
    >>> chain.matrix(3).round(3).tolist()
    [[0.667, 0.333, 0.0], [0.333, 0.333, 0.333], [0.0, 0.333, 0.667]]
    >>> pushes = ls.Graph(nx.DiGraph([(0, 1), (1, 2), (2, 0), (0, 2)]))
    >>> pushes.stochastic, pushes.matrix(3).sum(axis=0).tolist()
    ('column', [1.0, 1.0, 1.0])
    """

    graph: Any
    lazy: bool = False

    @classmethod
    def example(cls) -> Graph:
        """Return a ring of four with a chord: degrees 3, 2, 3, 2."""
        return cls(((1, 2, 3), (0, 2), (0, 1, 3), (0, 2)))

    def __post_init__(self) -> None:
        object.__setattr__(self, "graph", normalised(self.graph))

    @property
    def size(self) -> int:
        """Return the number of workers."""
        return len(self.graph)

    @property
    def sizes(self) -> str:  # type: ignore[override]
        """Return its one number of workers, in words."""
        return f"{self.size} workers, its nodes"

    def serves(self, size: int) -> bool:
        return size == self.size

    @cached_property
    def mixing(self) -> Rows:
        """Return W, by rows."""
        rows = self.graph if is_matrix(self.graph) else weighted(self.graph)
        if not self.lazy:
            return rows
        return tuple(
            tuple(weight / 2 + (0.5 if rank == other else 0.0) for other, weight in enumerate(row))
            for rank, row in enumerate(rows)
        )

    @cached_property
    def stochastic(self) -> Sums:  # type: ignore[override]
        """Return which sums of W are 1."""
        return sums_that_are_one(self.mixing)

    @cached_property
    def symmetric(self) -> bool:  # type: ignore[override]
        """Return whether W is its own transpose, to 1e-9."""
        mixing = np.array(self.mixing)
        return bool(np.abs(mixing - mixing.T).max() <= EXACT)

    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        self.check_size(size)
        return {other: weight for other, weight in enumerate(self.mixing[rank]) if weight or other == rank}

    def readers(self, rank: int, size: int, step: int) -> tuple[int, ...]:
        return tuple(other for other in range(size) if other != rank and self.mixing[other][rank])


def is_matrix(rows: Sequence[Sequence[float]]) -> bool:
    """Return whether these are rows of weights: a worker has at most n - 1 readers."""
    return all(len(row) == len(rows) for row in rows)


def normalised(graph: Any) -> Rows:
    """Return rows of weights, or of the ranks that read each worker; refuse what is neither."""
    if hasattr(graph, "nodes") and hasattr(graph, "adjacency"):
        nodes = list(graph.nodes)
        if set(nodes) == set(range(len(nodes))):
            nodes = sorted(nodes)
        ranks = {node: rank for rank, node in enumerate(nodes)}
        graph = [[ranks[other] for other in graph.adj[node] if other != node] for node in nodes]
    try:
        rows = tuple(tuple(value.item() if hasattr(value, "item") else value for value in row) for row in graph)
    except TypeError:
        raise TypeError(
            f"graph must be a networkx graph, a square matrix or rows of ranks, got {graph!r}"
        ) from None
    if not rows:
        raise ValueError("graph must have at least 1 node, got none")
    return checked_matrix(rows) if is_matrix(rows) else checked_ranks(rows)


def checked_ranks(rows: Rows) -> Rows:
    """Return the rows in order of rank; refuse what is no rank of another worker."""
    if any(len(row) >= len(rows) for row in rows):
        longest = max(map(len, rows))
        raise ValueError(f"graph must be square or have rows shorter than {len(rows)}, got one of {longest}")
    for rank, row in enumerate(rows):
        for other in row:
            checks.rank(f"graph[{rank}]", other, len(rows))
        if rank in row or len(set(row)) < len(row):
            raise ValueError(f"graph[{rank}] must name other ranks, each once, got {row!r}")
    return tuple(tuple(sorted(row)) for row in rows)


def checked_matrix(rows: Rows) -> Rows:
    """Return the rows as floats; refuse weights that are no mixing matrix's."""
    mixing: NDArray[np.float64] = np.array(rows, np.float64)
    if not np.isfinite(mixing).all() or (mixing < 0).any():
        raise ValueError(f"graph must have finite weights of at least 0, got {mixing.min():g} .. {mixing.max():g}")
    sums_that_are_one(tuple(map(tuple, mixing.tolist())))
    return tuple(map(tuple, mixing.tolist()))


def sums_that_are_one(rows: Rows) -> Sums:
    """Return which sums are 1; refuse a matrix without any."""
    mixing = np.array(rows)
    apart = [float(np.abs(mixing.sum(axis=axis) - 1).max()) for axis in (1, 0)]
    by_row, by_column = (each <= EXACT for each in apart)
    if not by_row and not by_column:
        raise ValueError(
            f"graph must have rows or columns that sum to 1, got rows that miss it by {apart[0]:.3g} and columns "
            f"that miss it by {apart[1]:.3g}"
        )
    return "doubly" if by_row and by_column else "row" if by_row else "column"


def weighted(readers: Rows) -> Rows:
    """Return the matrix of a graph without weights: Metropolis', or equal shares of what each worker gives."""
    ranks = [[int(other) for other in row] for row in readers]
    size = len(ranks)
    mixing = np.zeros((size, size))
    both_ways = all(rank in ranks[other] for rank in range(size) for other in ranks[rank])
    for rank in range(size):
        given = (
            metropolis(ranks, rank)
            if both_ways
            else dict.fromkeys([rank, *ranks[rank]], 1 / (1 + len(ranks[rank])))
        )
        for other, weight in given.items():
            mixing[other, rank] = weight
    return tuple(map(tuple, mixing.tolist()))
