"""SGP: the recursion on directed graphs, sums that are conserved, and what it is on regular graphs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest
from tests.contract.test_resuming import CRASHES, check_crashes
from tests.papers.problems import EQUAL, RATE, Array, difference, in_turn, quadratics, trace

import loosestep as ls

PROBLEM = quadratics(5)
TRANSPORTS = [in_turn(5), ls.Threads(5)]


@dataclass(frozen=True, repr=False)
class Star(ls.Topology):
    """Directed and irregular: all push to worker 0 and to the next one; worker 0 pushes to the next one alone."""

    stochastic: ClassVar[Literal["doubly", "row", "column"]] = "column"

    def targets(self, rank: int, size: int) -> list[int]:
        return sorted({rank, (rank + 1) % size, 0} if rank else {0, 1 % size})

    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        pushing = {other: self.targets(other, size) for other in range(size)}
        return {other: 1 / len(to) for other, to in pushing.items() if rank in to}

    def readers(self, rank: int, size: int, step: int) -> tuple[int, ...]:
        return tuple(other for other in self.targets(rank, size) if other != rank)


def pushed(topology: ls.Topology, steps: int, rate: float = RATE, mu: float = 0.0) -> tuple[Array, Array, Array]:
    """Where gradients are taken (z), and x and w in the end: v <- mu v - eta g(z), x <- P (x + v), w <- P w."""
    x, w, points = PROBLEM.starts(), np.ones((5, 1)), []
    v = np.zeros_like(x)
    for step in range(steps):
        points.append(x / w)
        v = mu * v - rate * PROBLEM.gradients(x / w)
        mixing = topology.matrix(5, step)
        x, w = mixing @ (x + v), mixing @ w
    return np.array(points), x, w


@pytest.mark.parametrize("on", TRANSPORTS, ids=repr)
@pytest.mark.parametrize("topology", [Star(), ls.OnePeerExponential(), ls.Ring(), ls.Complete()], ids=repr)
@pytest.mark.parametrize("mu", [0.0, 0.7])
def test_it_follows_its_recursion(topology: ls.Topology, on: ls.Threads, mu: float) -> None:
    optimizer = ls.Momentum(RATE, mu)
    found = trace(ls.SGP(topology), PROBLEM, 30, on=on, optimizer=optimizer)
    points, x, w = pushed(topology, 30, mu=mu)
    assert difference(np.stack(found.points, axis=1), points) < EQUAL
    assert difference(found.replicas, x / w) < EQUAL
    assert difference(found.center, x.mean(axis=0)) < EQUAL


def test_without_gradients_a_directed_graph_comes_to_the_mean_of_all() -> None:
    """Its powers alone would come to another mean, which weighs workers by how much they are read."""
    found = []

    def gradient(z: Array, rank: int) -> Array:
        """One step from 0 to b_i, then none."""
        found.append(z.copy())
        return z - PROBLEM.minima[rank] if len(found) <= 5 else np.zeros_like(z)

    batches = lambda rank, size: iter([rank] * 120)  # noqa: E731
    result = ls.run(ls.SGP(Star()), gradient, np.zeros(5), batches, optimizer=ls.SGD(1.0), on=in_turn(5))
    mean = PROBLEM.minima.mean(axis=0)
    assert difference(result.params, mean) < EQUAL
    assert difference(np.array([worker.params for worker in result.workers]), np.tile(mean, (5, 1))) < 1e-9
    moduli = np.linalg.matrix_power(Star().matrix(5), 200)
    assert difference(moduli[:, 0], np.full(5, 0.2)) > 0.05


@pytest.mark.parametrize(("topology", "messages", "values"), [(ls.Ring(), 10, 5), (Star(), 8, 6)], ids=repr)
def test_the_weight_is_sent_on_irregular_graphs_alone(topology: ls.Topology, messages: int, values: int) -> None:
    workers = trace(ls.SGP(topology), PROBLEM, 6).result.workers
    assert sum(worker.messages for worker in workers) == 6 * messages
    assert sum(worker.bytes_sent for worker in workers) == 6 * messages * values * 8
    assert ls.SGP(topology).cost(5, 5) == (messages / 5 * values, messages / 5, 0)


def test_log2_n_steps_of_one_peer_are_the_exact_mean() -> None:
    graph = ls.OnePeerExponential()
    for n in (2, 4, 8, 16):
        for begin in range(4):
            product = np.eye(n)
            for step in range(begin, begin + graph.period(n)):
                product = graph.matrix(n, step) @ product
            assert (product == 1 / n).all()
    product = graph.matrix(6, 2) @ graph.matrix(6, 1) @ graph.matrix(6, 0)
    assert not (product == 1 / 6).all()


def test_all_to_all_is_mini_batch_sgd() -> None:
    found, whole = (trace(each, PROBLEM, 30) for each in (ls.SGP(ls.Complete()), ls.LocalSGD(1)))
    assert difference(found.replicas, whole.replicas) < EQUAL


def test_a_graph_that_only_averages_is_refused() -> None:
    class Reading(Star):
        stochastic = "row"

    with pytest.raises(ValueError, match=r"^topology must be doubly or column-stochastic, to push sums, got Read"):
        ls.SGP(Reading())
    with pytest.raises(
        ValueError, match=r"^topology must be doubly stochastic, to conserve the mean, got Star\(\)"
    ):
        ls.CDSGD(Star())


def test_killed_and_resumed_its_weights_are_as_they_were(tmp_path: Path) -> None:
    check_crashes(ls.SGP(Star()), ls.Threads(3), tmp_path, CRASHES[::4])
