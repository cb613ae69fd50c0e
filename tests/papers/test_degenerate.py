"""Every method at the settings where it must be another: one table, run by one test."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from tests.papers.problems import EQUAL, RATE, Array, Quadratics, difference, in_turn, quadratics, sgd, trace

import loosestep as ls

STEPS = 36
FOUR, ONE, ALIKE = quadratics(4), quadratics(1), quadratics(4, alike=True)
NESTEROV, HEAVY, NO_MOMENTUM = ls.Nesterov(RATE, 0.9), ls.Momentum(RATE, 0.9), ls.Nesterov(RATE, 0.0)
S_SGD = ls.AllReduceSGD()


@dataclass(frozen=True)
class Case:
    """`strategy`, run so, is `other` (a strategy run so, or what is named), bit for bit or to rounding."""

    strategy: ls.Strategy
    other: ls.Strategy | str
    problem: Quadratics = field(default=FOUR, repr=False)
    optimizer: Any = None
    other_optimizer: Any = None
    bits: bool = False


def alone(strategy: ls.Strategy, optimizer: Any = None, *, bits: bool = True) -> Case:
    """One worker is the local optimizer."""
    return Case(strategy, S_SGD, ONE, optimizer, optimizer, bits)


CASES = {
    # N = 1
    "n=1: local SGD at any period is SGD": alone(ls.LocalSGD(5)),
    "n=1: local SGD with Nesterov is MSGD": alone(ls.LocalSGD(5), NESTEROV),
    "n=1: local SGD with averaged momentum is MSGD": alone(ls.LocalSGD(5, momentum="average"), NESTEROV),
    "n=1: DOWNPOUR at period 1 is SGD": alone(ls.Downpour(1), bits=False),
    "n=1: DOWNPOUR at any period is SGD": alone(ls.Downpour(9), bits=False),
    "n=1: DOWNPOUR with Nesterov is MSGD": alone(ls.Downpour(9), NESTEROV, bits=False),
    "n=1: CDSGD on a ring is SGD": alone(ls.CDSGD(ls.Ring())),
    "n=1: CDSGD on a torus is SGD": alone(ls.CDSGD(ls.Torus())),
    "n=1: CDSGD on a complete graph is SGD": alone(ls.CDSGD(ls.Complete())),
    "n=1: CDMSGD is MSGD": alone(ls.CDSGD(), NESTEROV),
    "n=1: Hogwild is SGD": alone(ls.Hogwild()),
    "n=1: racy Hogwild is SGD": alone(ls.Hogwild("racy")),
    "n=1: Hogwild with heavy ball is heavy ball": alone(ls.Hogwild(), HEAVY),
    # alpha = 0
    "n=1, a=0: EAMSGD is MSGD": Case(ls.EASGD(4, 0.0), "the replica alone", ONE, NESTEROV, bits=True),
    "a=0: EASGD is independent SGD": Case(ls.EASGD(4, 0.0), "replicas alone"),
    "a=0: EASGD, published order, is independent SGD": Case(ls.EASGD(4, 0.0, order="published"), "replicas alone"),
    "a=0: synchronous EASGD is independent SGD": Case(ls.SyncEASGD(4, 0.0), "replicas alone"),
    "a=0: the center of EASGD rests": Case(ls.EASGD(4, 0.0), "the start", bits=True),
    "a=0: the center of synchronous EASGD rests": Case(ls.SyncEASGD(4, 0.0), "the start", bits=True),
    # eta = 0
    "eta=0: local SGD rests": Case(ls.LocalSGD(4), "the start", FOUR, ls.SGD(0.0)),
    "eta=0: EASGD rests": Case(ls.EASGD(4), "the start", FOUR, ls.SGD(0.0), bits=True),
    "eta=0: synchronous EASGD rests": Case(ls.SyncEASGD(4), "the start", FOUR, ls.SGD(0.0)),
    "eta=0: DOWNPOUR rests": Case(ls.Downpour(4), "the start", FOUR, ls.SGD(0.0), bits=True),
    "eta=0: CDSGD rests": Case(ls.CDSGD(), "the start", FOUR, ls.SGD(0.0)),
    "eta=0: Hogwild rests": Case(ls.Hogwild(), "the start", FOUR, ls.SGD(0.0), bits=True),
    # mu = 0
    "mu=0: Nesterov S-SGD is S-SGD": Case(S_SGD, S_SGD, FOUR, NO_MOMENTUM, bits=True),
    "mu=0: EAMSGD is EASGD": Case(ls.EASGD(4), ls.EASGD(4), FOUR, NO_MOMENTUM, bits=True),
    "mu=0: CDMSGD is CDSGD": Case(ls.CDSGD(), ls.CDSGD(), FOUR, NO_MOMENTUM, bits=True),
    "mu=0: momentum local SGD is local SGD": Case(ls.LocalSGD(4), ls.LocalSGD(4), FOUR, NO_MOMENTUM, bits=True),
    # tau = 1, tau = T
    "tau=1: local SGD is S-SGD": Case(ls.LocalSGD(1), S_SGD),
    "tau=1: local SGD keeping momentum is S-SGD": Case(ls.LocalSGD(1), S_SGD, FOUR, HEAVY, HEAVY),
    "tau=1: local SGD averaging momentum is S-SGD": Case(
        ls.LocalSGD(1, momentum="average"), S_SGD, FOUR, NESTEROV, NESTEROV
    ),
    "tau=1: local SGD forgetting momentum is SGD": Case(ls.LocalSGD(1, momentum="reset"), S_SGD, FOUR, HEAVY),
    "tau=T: local SGD is one-shot averaging": Case(ls.LocalSGD(STEPS), "the mean of all alone"),
    "tau>T: local SGD is one-shot averaging": Case(ls.LocalSGD(10 * STEPS), "the mean of all alone"),
    "alike: the period of local SGD does not matter": Case(ls.LocalSGD(12), ls.LocalSGD(1), ALIKE),
    # W = 11^T / N
    "W=11^T/N: CDSGD is local SGD at period 1, alike": Case(ls.CDSGD(ls.Complete()), S_SGD, ALIKE),
    # alpha = 1: the replicas restart from the old center
    "a=1, b=1: synchronous EASGD from equal starts steps every second time": Case(
        ls.SyncEASGD(1, 1.0, 1.0), "S-SGD with half the steps"
    ),
}


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
