"""Every method at the settings where it must be another: the tables in `cases`, run by one test."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from tests.papers.degenerate import FOUR, S_SGD, STEPS, Case
from tests.papers.problems import EQUAL, Array, difference, in_turn, sgd, trace

import loosestep as ls

TABLES = [
    import_module(f"tests.papers.cases.{file.stem}") for file in sorted(Path(__file__).parent.glob("cases/*.py"))
]
CASES: dict[str, Case] = {name: case for table in TABLES for name, case in table.CASES.items()}


def by_name(name: str, case: Case) -> Array:
    """What a run would have ended with: the replicas, or the consensus."""
    ends = np.array([sgd(case.problem, rank, STEPS)[-1] for rank in range(case.problem.workers)])
    return {
        "the start": lambda: case.problem.start,
        "replicas alone": lambda: ends,
        "the mean of all alone": lambda: ends.mean(axis=0),
        "the replica alone": lambda: (
            trace(S_SGD, case.problem, STEPS, on=ls.Serial(), optimizer=case.optimizer).replicas
        ),
        "S-SGD with half the steps": lambda: trace(S_SGD, case.problem, STEPS // 2).center,
    }[name]()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_method_is_the_other(case: Case) -> None:
    found = trace(case.strategy, case.problem, STEPS, optimizer=case.optimizer)
    if isinstance(case.other, str):
        expected = by_name(case.other, case)
    else:
        expected = trace(case.other, case.problem, STEPS, optimizer=case.other_optimizer).center
    ours = found.center if expected.ndim == 1 else found.replicas
    assert difference(ours, expected) <= (0.0 if case.bits else EQUAL)


@pytest.mark.parametrize("strategy", [ls.LocalSGD(3), ls.SyncEASGD(3), ls.CDSGD(), S_SGD], ids=repr)
def test_threads_and_virtual_time_give_the_same_bits(strategy: ls.Strategy) -> None:
    threads, virtual = (trace(strategy, FOUR, STEPS, on=on) for on in (ls.Threads(4), in_turn(4)))
    assert (threads.center == virtual.center).all()
    assert (threads.replicas == virtual.replicas).all()
