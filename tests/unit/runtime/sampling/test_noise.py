"""What a worker is told of its sampler, and which strategies may have one."""

from __future__ import annotations

import numpy as np
import pytest
from tests.contract.parametrize import EXAMPLES

import loosestep as ls
from loosestep.ops.noise import NoiseStream
from loosestep.requests.worker import Worker
from loosestep.runtime.sampling.noise import check_sampler, give_noise
from loosestep.strategies.base import Strategy

KEEP = {"AllReduceSGD", "Downpour", "DownpourMCMC", "ElasticMCMC", "Hogwild", "OneShotAveraging"}


@pytest.mark.parametrize("strategy", EXAMPLES, ids=repr)
def test_only_what_keeps_the_temperature_takes_a_sampler(strategy: Strategy) -> None:
    if type(strategy).__name__ in KEEP:
        check_sampler(strategy, ls.SGLD(), 4)
    else:
        with pytest.raises(ValueError, match="does not keep the temperature of SGLD"):
            check_sampler(strategy, ls.SGLD(), 4)
    check_sampler(strategy, ls.SGLD(temperature=0.0), 4)
    check_sampler(strategy, ls.SGD(), 4)


def test_alone_where_a_strategy_does_nothing_any_will_do() -> None:
    check_sampler(ls.LocalSGD(), ls.SGLD(), 1)
    with pytest.raises(ValueError, match="does not keep the temperature"):
        check_sampler(ls.EASGD(), ls.SGLD(), 1)


@pytest.mark.parametrize(
    ("strategy", "noise"),
    [
        (ls.OneShotAveraging(), NoiseStream(7, 2)),
        (ls.AllReduceSGD(), NoiseStream(7, 0)),
        (ls.DownpourMCMC(noise="worker"), NoiseStream(7, 2)),
        (ls.DownpourMCMC(), None),
    ],
)
def test_each_worker_has_a_stream_all_share_one_or_the_strategy_adds_it(
    strategy: Strategy, noise: NoiseStream | None
) -> None:
    worker = Worker(2, 4, np.zeros(3), lambda name, like: None)  # type: ignore[arg-type, return-value]
    worker.seed = 7
    give_noise(worker, strategy, ls.SGLD(ls.schedules.StepDecay(0.5, at=(10,)), examples=100))
    assert worker.noise == noise
    assert worker.variance_at(0) == pytest.approx(0.01)
    assert worker.variance_at(10) == pytest.approx(0.001)
    give_noise(worker, strategy, ls.SGD())
    assert worker.variance_at(0) == 0
