"""A prediction takes the seconds, and sends the bytes, of the run that it stands for."""

from __future__ import annotations

import numpy as np
import pytest
from tests.contract.parametrize import ALL, go
from tests.contract.problem import SIZE, Quadratic

import loosestep as ls
from loosestep.planner.prediction import Prediction, predict
from loosestep.strategies.base import Need, Strategy
from loosestep.transports.simulated import session

STEPS = 11


def predictable(strategy: Strategy) -> bool:
    adapts = strategy.course_depends_on_values or Need.STEP_TIMES in strategy.needs
    return len(strategy.stages) == 1 and not adapts and not strategy.shared_buffers


CASES = [case for case in ALL if predictable(case.values[0])]
UNEVEN = ls.stragglers.LogNormal(0.4)


def compare(found: Prediction, real: ls.Result) -> None:
    assert found.seconds == real.seconds
    assert found.bytes_sent == pytest.approx(np.mean([worker.bytes_sent for worker in real.workers]))
    assert found.messages == pytest.approx(np.mean([worker.messages for worker in real.workers]))
    assert found.waiting_share == pytest.approx(real.waiting_share)


@pytest.mark.parametrize("strategy", CASES)
@pytest.mark.parametrize("n", [1, 3, 4])
def test_a_prediction_is_the_clock_of_a_run(strategy: Strategy, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "CLOSED_FORM_ABOVE", 0)
    for on in (
        ls.Simulated(n, step_time=0.01, latency=0.003, bandwidth=1e4, seed=1),
        ls.Simulated(
            n, step_time=0.01, latency=0.001, bandwidth=3e4, center_bandwidth=1e4, stragglers=UNEVEN, seed=2
        ),
    ):
        real = go(strategy, Quadratic([100] * n), on, np.float32, steps=STEPS)
        compare(predict(strategy, SIZE, on, steps=STEPS), real)


PRICES = ls.Prices(
    header=48, send=1e-4, receive=5e-5, copy=1e-8, turn=6e-4, contention=0.1, update=1e-7, inbound=2e4,
    lag=(((8, 1e-4), (400, 2e-3)), ((100, -5e-4), (300, 1e-3))),
)  # fmt: skip


@pytest.mark.parametrize("strategy", CASES)
def test_a_prediction_with_prices_is_the_clock_of_a_run(strategy: Strategy) -> None:
    """Also where each worker has a shard of every variable, and serves others while it computes."""
    for n, center in ((3, "shards"), (4, "apart")):
        on = ls.Simulated(
            n, step_time=0.01, latency=0.003, bandwidth=3e4, stragglers=UNEVEN, seed=2, prices=PRICES,
            center=center,  # type: ignore[arg-type]
        )  # fmt: skip
        real = go(strategy, Quadratic([100] * n), on, np.float32, steps=STEPS)
        compare(predict(strategy, SIZE, on, steps=STEPS), real)


@pytest.mark.parametrize("strategy", [case for case in ALL if case not in CASES])
def test_what_depends_on_numbers_is_not_predicted(strategy: Strategy) -> None:
    with pytest.raises(ValueError, match=r"depends on values|several stages|share memory"):
        predict(strategy, SIZE, ls.Simulated(3), steps=STEPS)


def test_a_large_model_is_recorded_as_a_small_one() -> None:
    """Bytes and seconds grow with the parameters, buckets too; what is no part of the model stays what it is."""
    on = ls.Simulated(8, 0.05, latency=0.002, bandwidth=1e8)
    for strategy in (ls.AllReduceSGD(), ls.LocalSGD(4), ls.EASGD(4), ls.CDSGD()):
        small, large = (predict(strategy, count, on, steps=8) for count in (60_000, 60_000_000))
        assert large.bytes_sent == pytest.approx(1000 * small.bytes_sent)
    d, n, bandwidth = 60_000_000, 8, 1e8
    average = predict(ls.LocalSGD(4), d, on, steps=8).seconds - 8 * 0.05
    assert average == pytest.approx(2 * (2 * 0.002 + 2 * (n - 1) / n * 4 * d / bandwidth))
    words = predict(ls.StreamingDiLoCo(period=4, fragments=2, codec=ls.E3M0()), d, on, steps=8).bytes_sent
    assert words == pytest.approx(2 * (n - 1) * d / 2 * (4 + 16 / 64) / 8, rel=0.01)


def test_workers_that_ask_for_the_same_are_recorded_once() -> None:
    """With the numbers of 100 workers, at 65 and more of them in the same closed form, exactly."""
    on = ls.Simulated(100, 0.01, latency=0.001, bandwidth=1e5, stragglers=UNEVEN, seed=3)
    for strategy in (ls.LocalSGD(4), ls.EASGD(4)):
        compare(predict(strategy, SIZE, on, steps=8), go(strategy, Quadratic([8] * 100), on, np.float32, steps=8))


@pytest.mark.slow  # 20 seconds of a processor
def test_a_thousand_workers_are_exact() -> None:
    on = ls.Simulated(1024, 0.01, latency=0.001, bandwidth=1e5, stragglers=UNEVEN, seed=3)
    for strategy in (ls.LocalSGD(8), ls.EASGD(8)):
        real = go(strategy, Quadratic([16] * 1024), on, np.float32, steps=16)
        compare(predict(strategy, SIZE, on, steps=16), real)


def test_what_cannot_be_predicted_says_why() -> None:
    with pytest.raises(
        ValueError, match="depends on its rank, so each must be recorded: of at most 4,096 workers"
    ):
        predict(ls.CDSGD(), 10, ls.Simulated(5000), steps=1)
    with pytest.raises(TypeError, match="on must be a Simulated"):
        predict(ls.CDSGD(), 10, ls.Threads(2), steps=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="steps must be at least 1"):
        predict(ls.CDSGD(), 10, ls.Simulated(2), steps=0)
    with pytest.raises(ValueError, match="parameters must be at least 1"):
        predict(ls.CDSGD(), 0, ls.Simulated(2), steps=1)
