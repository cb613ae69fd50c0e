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


ROUNDS = [
    (ls.CDSGD(Star()), 5, "1 local step, sends 1 to 4 messages, 1 MB to 4 MB a worker"),
    (ls.CDSGD(Path()), 4, "1 local step, sends 1 to 2 messages, 1 MB to 2 MB a worker"),
    (ls.CDSGD(Star()), 200, "1 local step, sends 1 to 199 messages, 1 MB to 199 MB a worker"),
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
    asked = banner.asked_in_a_round(strategy, size)
    batches = lambda rank, size: iter([0.0] * 3)  # noqa: E731
    result = ls.run(strategy, lambda x, b: x, np.zeros(8), batches, on=ls.Simulated(size))
    assert [(worker.messages, worker.bytes_sent) for worker in result.workers] == [
        (3 * each.messages, 3 * each.sent * 64) for each in asked
    ]


@pytest.mark.parametrize("kind", discover(strategies, ls.Strategy))
def test_what_a_method_does_is_a_whole_sentence(kind: type[ls.Strategy]) -> None:
    told = banner.sentence(kind.example())
    assert told[0].isupper()
    assert told[-2].isalnum() or told[-2] in ")`"
    assert not told.endswith((" and.", " where.", " by."))
