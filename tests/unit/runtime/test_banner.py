"""What is printed before a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from tests.contract.discovery import discover

import loosestep as ls
from loosestep import strategies
from loosestep.runtime import banner


@dataclass(frozen=True, repr=False)
class Star(ls.Topology):
    """Everybody mixes with worker 0."""

    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        if rank:
            return {0: 0.1, rank: 0.9}
        return dict.fromkeys(range(1, size), 0.1) | {0: 1.1 - 0.1 * size}


@dataclass(frozen=True, repr=False)
class Path(ls.Topology):
    """Neighbours of a circle that is cut open behind the last."""

    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        beside = {other: 1 / 3 for other in (rank - 1, rank + 1) if 0 <= other < size}
        return beside | {rank: 1 - sum(beside.values())}


@dataclass(frozen=True, repr=False)
class Clipped(ls.Topology):
    """A hypercube without the corners that are too many: ranks that differ in one bit, weights of Metropolis."""

    def neighbours(self, rank: int, size: int) -> list[int]:
        return [rank ^ 1 << bit for bit in range(size.bit_length()) if rank ^ 1 << bit < size]

    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        degrees = {other: len(self.neighbours(other, size)) for other in range(size)}
        row = {other: 1 / (1 + max(degrees[rank], degrees[other])) for other in self.neighbours(rank, size)}
        return row | {rank: 1 - sum(row.values())}


@dataclass(frozen=True, repr=False)
class Hub(Star):
    """Everybody mixes with worker 1."""

    def row(self, rank: int, size: int, step: int) -> dict[int, float]:
        swapped = {0: 1, 1: 0}
        row = super().row(swapped.get(rank, rank), size, step)
        return {swapped.get(other, other): weight for other, weight in row.items()}


@dataclass(frozen=True, repr=False)
class Unpriced(ls.LocalSGD):
    """Steps alone, then a mean: x_i <- mean_j x_j. It does not say what it costs."""

    def cost(self, n: int, d: int) -> None:  # type: ignore[override]
        return None


ROUNDS = [
    (ls.CDSGD(Star()), 5, "1 local step, sends 1 to 4 messages, 1 MB to 4 MB a worker"),
    (ls.CDSGD(Path()), 4, "1 local step, sends 1 to 2 messages, 1 MB to 2 MB a worker"),
    (ls.CDSGD(Star()), 200, "1 local step, sends 1 to 199 messages, 1 MB to 199 MB a worker"),
    (ls.CDSGD(Hub()), 200, "1 local step, sends 1 to 199 messages, 1 MB to 199 MB a worker"),
    (ls.SGP(Clipped()), 6, "1 local step, sends 2 to 3 messages, 2 MB to 3 MB a worker"),
    (Unpriced(8), 4, "8 local steps, sends 1.5 MB a worker (188 kB a step)"),
    (
        ls.StreamingDiLoCo(codec=ls.E3M0()),
        4,
        "25 local steps, sends 99.6 kB a worker (3.99 kB a step)",
    ),
    (ls.CDSGD(), 5, "1 local step, sends 2 MB a worker"),
    (ls.LocalSGD(8), 4, "8 local steps, sends 1.5 MB a worker (188 kB a step)"),
    (ls.LocalSGD(8, steps=(8, 4, 2, 8)), 4, "2 to 8 local steps, sends 1.5 MB a worker (188 kB a step)"),
    (ls.FedAvg(8, 0.5), 4, "0 to 8 local steps, sends 1.5 MB a worker (188 kB a step)"),
    (
        ls.AsyncLocalSGD(8, speeds=(1.0, 2.0)),
        2,
        "4 to 8 local steps, sends 1 MB a worker (125 kB to 250 kB a step)",
    ),
    (
        ls.HierarchicalLocalSGD(((2, 2), (4, None))),
        5,
        "2 local steps, sends 0 to 2 messages, 0 B to 1 MB a worker (0 B to 500 kB a step)",
    ),
]


@pytest.mark.parametrize(("strategy", "size", "told"), ROUNDS, ids=lambda value: str(value))
def test_a_round_is_told_for_those_who_send_least_and_most(strategy: ls.Strategy, size: int, told: str) -> None:
    assert banner.a_round(strategy, size, 1_000_000) == told


@pytest.mark.parametrize(("strategy", "size", "told"), ROUNDS[:2], ids=lambda value: str(value))
def test_and_that_is_what_they_send(strategy: ls.Strategy, size: int, told: str) -> None:
    asked = banner.dry_runs(strategy, size)
    batches = lambda rank, size: iter([0.0] * 3)  # noqa: E731
    result = ls.run(strategy, lambda x, b: x, np.zeros(8), batches, on=ls.Simulated(size))
    assert [(worker.messages, worker.bytes_sent) for worker in result.workers] == [
        (3 * each.messages, 3 * each.sent * 64) for each in asked
    ]


@pytest.mark.parametrize("topology", [Star(), Path(), Clipped(), Hub()], ids=repr)
def test_on_an_irregular_graph_the_cost_is_the_mean_of_what_workers_send(topology: ls.Topology) -> None:
    strategy = ls.SGP(topology)
    asked = banner.dry_runs(strategy, 6)
    batches = lambda rank, size: iter([0.0] * 3)  # noqa: E731
    workers = ls.run(strategy, lambda x, b: x, np.zeros(8), batches, on=ls.Simulated(6)).workers
    assert [worker.bytes_sent for worker in workers] == [3 * each.sent * 64 for each in asked]
    assert sum(worker.bytes_sent for worker in workers) / 6 / 3 == pytest.approx(strategy.cost(6, 8).total(8))


def test_graphs_are_told_with_degree_and_gap() -> None:
    told = banner.graphs([ls.CDSGD(), ls.SGP(), ls.SGP(Path()), ls.LocalSGD()], 8)
    assert told == {
        "Ring()": "degree 2, spectral gap 0.195",
        "OnePeerExponential()": "degree 1, spectral gap 1 of a period of 3 steps",
        "Path()": "degree 1.75, spectral gap 0.0507",
    }


@pytest.mark.parametrize("kind", discover(strategies, ls.Strategy))
def test_what_a_method_does_is_a_whole_sentence(kind: type[ls.Strategy]) -> None:
    told = banner.summary(kind.example())
    assert told[0].isupper()
    assert told[-2].isalnum() or told[-2] in ")`"
    assert not told.endswith((" and.", " where.", " by."))
