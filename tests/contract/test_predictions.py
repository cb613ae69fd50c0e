"""A prediction takes the seconds, and sends the bytes, of the run that it stands for."""

from __future__ import annotations

import numpy as np
import pytest
from tests.contract.parametrize import ALL, go
from tests.contract.problem import SIZE, Quadratic

import loosestep as ls
from loosestep.runtime.prediction.predict import Prediction, predict
from loosestep.strategies.base import Need, Strategy
from loosestep.transports.simulated import session

STEPS = 11


def predictable(strategy: Strategy) -> bool:
    adapts = strategy.course_depends_on_values or Need.STEP_TIMES in strategy.needs
    return len(strategy.stages) == 1 and not adapts


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
        ls.Simulated(n, step_time=0.01, latency=0.001, bandwidth=3e4, center_bandwidth=1e4, stragglers=UNEVEN, seed=2),
    ):
        real = go(strategy, Quadratic([100] * n), on, np.float32, steps=STEPS)
        compare(predict(strategy, SIZE, on, steps=STEPS), real)


@pytest.mark.parametrize("strategy", [case for case in ALL if case not in CASES])
def test_what_depends_on_numbers_is_not_predicted(strategy: Strategy) -> None:
    with pytest.raises(ValueError, match=r"depends on values|several stages"):
        predict(strategy, SIZE, ls.Simulated(3), steps=STEPS)
