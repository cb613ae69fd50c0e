"""What elastic methods warn of: on both sides of the limit the warning and the run say the same."""

from __future__ import annotations

import numpy as np
import pytest
from tests.papers.problems import all_at_once, homogeneous, in_turn, rank_forever, trace

import loosestep as ls
from loosestep import data
from loosestep.cli.experiment import Experiment
from loosestep.data import models
from loosestep.runtime import banner


def grows(strategy: ls.Strategy, workers: int) -> bool:
    """Apart after two gradient steps, replicas and center are then left to the exchanges alone."""
    problem = homogeneous(np.ones(1), workers, spread=1.0)
    rate = ls.SGD(lambda step: 0.1 if step < 2 else 0.0)
    found = trace(strategy, problem, 160, on=all_at_once(workers, 1), optimizer=rate, every=1)
    spread = np.abs(np.diff(found.centers[:, 0]))
    return bool(spread[100:].max() > spread[4:60].max())


@pytest.mark.parametrize("workers", [4, 8])
@pytest.mark.parametrize(("factor", "warned"), [(0.98, False), (1.02, True)])
def test_synchronous_elastic_averaging(workers: int, factor: float, warned: bool) -> None:
    strategy = ls.SyncEASGD(1, factor * 2 / (workers + 1))
    assert bool(strategy.warnings(workers)) == warned
    assert grows(strategy, workers) == warned


@pytest.mark.parametrize("workers", [4, 8])
@pytest.mark.parametrize(("factor", "warned"), [(0.98, False), (1.02, True)])
def test_elastic_averaging_whose_workers_meet_the_center_at_once(
    workers: int, factor: float, warned: bool
) -> None:
    strategy = ls.EASGD(1, factor * 2 / (workers + 1))
    assert bool(strategy.warnings(workers)) == warned
    assert grows(strategy, workers) == warned


def test_the_sentence_has_the_numbers() -> None:
    assert banner.warnings([ls.EASGD(moving_rate=0.9), ls.LocalSGD()], 16) == [
        "warning: EASGD(moving_rate=0.9): moving_rate 0.9 explodes when all 16 workers meet the center at once, "
        "at any learning rate: it must be below 2 / (n + 1) = 0.118, and is 0.0563 by default"
    ]
    assert ls.SyncEASGD(moving_rate=0.5).warnings(4) == [
        "moving_rate 0.5 with center_rate 2 is unstable at any learning rate: their sum must be below 2, and is "
        "1.12 by default"
    ]
    assert ls.RoundRobinEASGD(1.1).warnings(4)
    assert not any(strategy.warnings(16) for strategy in (ls.EASGD(), ls.SyncEASGD(), ls.RoundRobinEASGD()))


# --- outer momentum ------------------------------------------------------------------------------------------

GAINS = [
    (ls.DiLoCo(8, 0.7, 0.9), 7.0),
    (ls.BMUF(8, 0.75), 4.0),
    (ls.BMUF(8, 0.9, 0.3, form="nesterov"), 3.0),
    (ls.SlowMo(8, 0.8, 0.5), 2.5),
    (ls.AsyncLocalSGD(8, 0.7, 0.9), 7.0),
]


@pytest.mark.parametrize(("strategy", "gain"), GAINS, ids=lambda value: str(value))
def test_an_outer_step_moves_as_many_times_farther_as_it_is_said(strategy: ls.Strategy, gain: float) -> None:
    """A slope without end: 8 steps of every worker's go 8 down, and c in the end a multiple of that."""
    (told,) = strategy.warnings(4)
    assert (
        f"moves {gain:g} times as far as the workers did, in the end: too far in rounds of 8 local steps" in told
    )
    on, seen = in_turn(4), []
    ls.run(
        strategy,
        lambda x, batch: np.ones(2),
        np.zeros(2),
        rank_forever,
        optimizer=ls.SGD(1.0),
        steps=1600,
        on=on,
        evaluate=lambda x: seen.append(x.copy()) or 0.0,
        every=8,
    )
    moved = np.diff(np.array(seen)[-3:-1], axis=0)
    assert np.abs(moved / -8 - gain).max() < 1e-6


def test_no_warning_where_rounds_are_long_gains_small_or_defaults() -> None:
    quiet = (ls.DiLoCo(25), ls.DiLoCo(8, 0.2, 0.9), ls.BMUF(8, 0.5))
    defaults = (
        ls.DiLoCo(),
        ls.BMUF(),
        ls.SlowMo(),
        ls.AsyncLocalSGD(),
        ls.StreamingDiLoCo(),
        ls.DecoupledDiLoCo(),
    )
    assert not any(strategy.warnings(8) for strategy in (*quiet, *defaults))
    assert ls.DecoupledDiLoCo(4, 2).warnings(4)
    assert ls.DiLoCo(500, momentum=1.0).warnings(2) == ["momentum 1 never dies away: it must be below 1"]


@pytest.mark.parametrize("strategy", [ls.BMUF(), ls.AsyncLocalSGD(), ls.DecoupledDiLoCo()], ids=repr)
def test_defaults_do_not_multiply_with_the_momentum_of_the_optimizer(strategy: ls.Strategy) -> None:
    """What `loosestep compare` runs by default: S-SGD reaches 97.2 %; BMUF with 1 - 1/n 90, DN with 0.9 70 %."""
    digits, on = data.find("digits", None)(), ls.Simulated(4)
    experiment = Experiment(digits, models.MLP(64), on, ls.Nesterov(0.03), batch=8, epochs=10, seed=0)
    assert experiment.run(strategy, lambda progress: None).metrics["test_accuracy"] > 0.96


# --- late outer gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize(("workers", "momentum"), [(2, 0.9), (8, 0.6), (8, 0.95)])
@pytest.mark.parametrize(("factor", "warned"), [(0.98, False), (1.02, True)])
def test_late_outer_gradients(eager: bool, workers: int, momentum: float, factor: float, warned: bool) -> None:
    """A step that goes all the way to the minimum is a round that comes to rest: a = 1."""
    limit = least_unstable(momentum, 1 / workers if eager else 0.0)
    strategy = ls.EagerDiLoCo(1, factor * limit, momentum, eager)
    told = [sentence for sentence in strategy.warnings(workers) if "swing ever farther" in sentence]
    assert bool(told) == warned
    if warned:
        assert f"goes more than {1 / factor:.0%} of its way to rest" in told[0]
        assert told[0].endswith(f"none do at a rate below {limit:.3g}")
    problem = homogeneous(np.ones(1), workers)
    path = np.abs(trace(strategy, problem, 600, on=in_turn(workers), optimizer=ls.SGD(1.0)).points[0])
    assert (path[-60:].max() > path[240:300].max()) == warned


def least_unstable(momentum: float, share: float) -> float:
    """The rate at which the recursion of c, u and D, written as a matrix, begins to grow, by halving."""

    def radius(rate: float) -> float:
        estimate = np.array([share, 0.0, 1 - share])
        u = np.array([0.0, momentum, 0.0]) + estimate
        c = np.array([1.0, 0.0, 0.0]) - rate * (estimate + momentum * u)
        return float(np.abs(np.linalg.eigvals(np.array([c, u, [1.0, 0.0, 0.0]]))).max())

    low, high = 1e-3, 4.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if radius(middle) < 1 else (low, middle)
    return low


def test_the_default_momentum_of_late_outer_gradients_bears_any_number_of_workers() -> None:
    strategy = ls.EagerDiLoCo()
    for share in (0.0, 1 / 64, 1 / 8, 1 / 4, 1 / 2, 1.0):
        assert strategy.rate < 0.8 * least_unstable(strategy.momentum, share)
    assert not any(strategy.warnings(n) for n in (1, 2, 4, 64, 1024))
    assert not ls.EagerDiLoCo(momentum=0.9).warnings(4)
    assert ls.EagerDiLoCo(momentum=0.9).warnings(8) == [
        "outer gradients are a round late: with rate 0.4 and momentum 0.9 the outer steps of 8 workers swing ever "
        "farther in directions in which a round goes more than 80% of its way to rest; with this momentum none do "
        "at a rate below 0.32"
    ]
