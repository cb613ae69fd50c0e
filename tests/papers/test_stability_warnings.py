"""What elastic methods warn of: on both sides of the limit the warning and the run say the same."""

from __future__ import annotations

import numpy as np
import pytest
from tests.papers.problems import all_at_once, homogeneous, trace

import loosestep as ls
from loosestep import opening


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
    assert opening.cautions([ls.EASGD(moving_rate=0.9), ls.LocalSGD()], 16) == [
        "warning: EASGD(moving_rate=0.9): moving_rate 0.9 explodes when all 16 workers meet the center at once, "
        "at any learning rate: it must be below 2 / (n + 1) = 0.118, and is 0.0563 by default"
    ]
    assert ls.SyncEASGD(moving_rate=0.5).warnings(4) == [
        "moving_rate 0.5 with center_rate 2 is unstable at any learning rate: their sum must be below 2, and is "
        "1.12 by default"
    ]
    assert ls.RoundRobinEASGD(1.1).warnings(4)
    assert not any(strategy.warnings(16) for strategy in (ls.EASGD(), ls.SyncEASGD(), ls.RoundRobinEASGD()))
