"""Ctrl-C at any gradient, also when some data has ended: all stop at one step, and resume to the same bits."""

from __future__ import annotations

import os
import signal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tests.contract.discovery import cases, discover, is_many
from tests.contract.parametrize import EPOCH
from tests.contract.problem import Quadratic, facts, start

import loosestep as ls
from loosestep import strategies, transports
from loosestep.strategies.base import Strategy
from loosestep.transports.base import Transport

ALL = cases(strategies, Strategy)
ALL_STRATEGIES = [case.values[0] for case in ALL]
MANY = [cls for cls in discover(transports, Transport) if is_many(cls)]


def go(strategy: Strategy, on: Transport, folder: Path, at: int = 0, **options: Any) -> ls.Result:
    """A run that presses Ctrl-C at one of its gradients."""
    data, number = Quadratic([14, 6, 11], [2, 1, 3], noise=1.0), count(1)

    def gradient(x: Any, batch: Any) -> Any:
        if next(number) == at:
            os.kill(os.getpid(), signal.SIGINT)
        return data.gradient(x, batch)

    batches = data.together if ls.Need.GLOBAL_BATCHES in strategy.needs else data.batches
    options |= {"optimizer": ls.Nesterov(0.05), "steps_per_epoch": EPOCH, "checkpoint": folder}
    return ls.run(strategy, gradient, start(), batches, on=on, **options)


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda file: None)


@pytest.mark.parametrize("strategy", ALL)
@pytest.mark.parametrize("kind", MANY)
def test_ctrl_c_at_any_gradient(strategy: Strategy, kind: type[Transport], tmp_path: Path) -> None:
    whole = go(strategy, kind(3), tmp_path / "whole")
    steps = [worker.steps for worker in whole.workers]
    first = 1 + ALL_STRATEGIES.index(strategy) % 8  # together they try every gradient
    for at in range(first, sum(steps) + 1, 8 if kind.virtual else 16):
        folder = tmp_path / str(at)
        with pytest.raises(ls.Interrupted) as caught:
            go(strategy, kind(3), folder, at)
        stopped = caught.value.result
        assert stopped.history[-1].step <= max(steps) + 10
        resumed = go(strategy, kind(3), folder, resume=True)
        assert [worker.steps for worker in resumed.workers] == steps
        if strategy.synchronous:
            assert facts(resumed)[:4] == facts(whole)[:4], f"Ctrl-C at gradient {at}"


@pytest.mark.parametrize("kind", MANY)
def test_the_handler_of_before_comes_back(kind: type[Transport], tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ls.Interrupted):
        go(ls.LocalSGD(), kind(3), tmp_path, 5)
    assert signal.getsignal(signal.SIGINT) is before
