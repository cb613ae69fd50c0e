"""Runs with numbers that stand for a larger model: how many steps a loss takes, and how many seconds."""

from __future__ import annotations

from math import inf
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import loosestep as ls
from loosestep.data import Dataset
from loosestep.data.models import MLP, Softmax
from loosestep.planner.methods import SmallProblem, Trial
from loosestep.planner.methods.candidates import priced
from loosestep.planner.methods.small_problem import crossing, smaller, stand_in
from loosestep.transports.simulated.transport import MEMORY_BANDWIDTH


def two_clouds() -> Dataset:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 400)
    rows = random.normal(size=(400, 64)) + 0.4 * labels[:, None]
    return Dataset("two clouds", rows[:300], labels[:300], rows[300:], labels[300:])


D = 10_000_000
CLUSTER = ls.Simulated(4, step_time=0.1, latency=0.01, bandwidth=1e8)
PROBLEM = SmallProblem(0.1, data=two_clouds(), model=MLP(16), batch=4, longest=80, optimizer=ls.SGD(0.2), every=4)


@pytest.mark.parametrize(
    "strategy",
    [
        ls.AllReduceSGD(bucket_bytes=4 << 20),
        ls.LocalSGD(4),
        ls.CoCoDSGD(4),
        ls.StreamingDiLoCo(period=2, fragments=2, codec=ls.E3M0()),
        ls.EASGD(4),
        ls.CDSGD(),
    ],
)
def test_a_run_with_numbers_takes_the_seconds_of_the_model_that_it_stands_for(strategy: ls.Strategy) -> None:
    found = PROBLEM.trial(strategy, CLUSTER, D)
    assert found.steps is not None
    planned = priced(strategy, D, CLUSTER).to_loss(found.steps)
    assert found.seconds == pytest.approx(planned.seconds, rel=2e-3)
    assert found.loss <= 0.1


def test_steps_are_counted_once_for_what_computes_the_same() -> None:
    made: list[Trial] = []
    known: dict[Any, Trial] = {}
    strategies = [ls.LocalSGD(2), ls.EASGD(2), ls.AllReduceSGD(), ls.AllReduceSGD(bucket_bytes=1 << 20)]
    first = PROBLEM.steps(strategies, CLUSTER, D, known=known, note=made.append)
    assert len(made) == 3
    assert set(first) == set(strategies)
    assert first[strategies[2]] == first[strategies[3]]
    slow = ls.Simulated(4, step_time=0.1, latency=0.5, bandwidth=1e8)
    again = PROBLEM.steps(strategies, slow, D, known=known, note=made.append)
    assert [trial.strategy for trial in made[3:]] == [ls.EASGD(2)]  # whose course depends on links
    assert again[ls.LocalSGD(2)] == first[ls.LocalSGD(2)]


def test_a_run_of_few_rounds_says_nothing() -> None:
    found = PROBLEM.trial(ls.LocalSGD(16), CLUSTER, D)
    assert found.steps is not None
    assert found.steps < 5 * 16
    assert PROBLEM.steps([ls.LocalSGD(16)], CLUSTER, D) == {}


def test_the_learning_rate_is_the_best_of_several() -> None:
    trials = {factor: PROBLEM.trial(ls.LocalSGD(4), CLUSTER, D, factor=factor) for factor in PROBLEM.factors}
    best = PROBLEM.best_trial(ls.LocalSGD(4), CLUSTER, D)
    assert best.steps == min(trial.steps for trial in trials.values() if trial.steps is not None)
    assert [trial.factor for trial in PROBLEM.trials(ls.LocalSGD(4), CLUSTER, D, seeds=(1, 2))] == [
        best.factor
    ] * 2


def test_a_loss_that_is_not_reached_has_no_steps() -> None:
    hard = SmallProblem(1e-9, data=two_clouds(), model=Softmax(), batch=4, longest=20)
    assert hard.steps([ls.LocalSGD(4)], CLUSTER, D) == {}
    wild = SmallProblem(0.25, data=two_clouds(), model=Softmax(), optimizer=ls.SGD(1e38), longest=20)
    assert wild.trial(ls.LocalSGD(4), CLUSTER, D) == Trial(ls.LocalSGD(4), 1.0, inf)


def at(step: int, seconds: float, loss: float) -> Any:
    return SimpleNamespace(step=step, seconds=seconds, metrics={"loss": loss})


def test_between_evaluations_the_logarithm_of_the_loss_is_linear() -> None:
    history = [at(10, 1.0, 0.8), at(20, 2.0, 0.4), at(30, 3.0, 0.1)]
    assert crossing(history, 0.2, 1) == (25, pytest.approx(2.5))
    assert crossing(history, 0.2, 2) == (26, pytest.approx(2.6))  # a round ends there
    assert crossing(history, 0.8, 1) == (10, 1.0)
    assert crossing(history, 0.05, 1) == (None, None)


def test_links_and_buckets_are_scaled_with_the_model() -> None:
    table = ls.Simulated(2, bandwidth=((1.0, 8.0), (8.0, 1.0)))
    assert stand_in(table, 4.0).bandwidth == [[0.25, 2.0], [2.0, 0.25]]
    hosts = stand_in(ls.Simulated(4, hosts=(2, 2), bandwidth=8.0, center_bandwidth=16.0), 4.0)
    assert (hosts.bandwidth, hosts.center_bandwidth, hosts.host_bandwidth) == (2.0, 4.0, MEMORY_BANDWIDTH / 4)
    prices = ls.Prices(header=8.0, send=1.0, copy=1.0, update=1.0, inbound=8.0, lag=(((8.0, 1.0),),))
    scaled = ls.Prices(header=2.0, send=1.0, copy=4.0, update=4.0, inbound=2.0, lag=(((2.0, 1.0),),))
    assert stand_in(ls.Simulated(2, prices=prices), 4.0).prices == scaled
    assert smaller(ls.AllReduceSGD(bucket_bytes=4000, first_bytes=8), 4.0) == ls.AllReduceSGD(
        bucket_bytes=1000, first_bytes=4
    )
    assert smaller(ls.LocalSGD(4), 4.0) == ls.LocalSGD(4)


def test_bad_problems_are_refused() -> None:
    with pytest.raises(ValueError, match="loss must be above 0"):
        SmallProblem(0.0)
    with pytest.raises(ValueError, match="factors must hold at least one"):
        SmallProblem(factors=())
    with pytest.raises(ValueError, match="workers of a run with numbers must be at most 64"):
        PROBLEM.trial(ls.LocalSGD(), ls.Simulated(65), D)
