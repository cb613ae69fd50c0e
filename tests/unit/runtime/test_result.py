"""What a run reports: sums of workers, means over samples, and how a signal ends the program."""

from __future__ import annotations

import sys
from dataclasses import replace
from math import isnan
from signal import SIGINT, SIGTERM
from typing import Any

import numpy as np
import pytest

from loosestep.runtime.result import Interrupted, Result, Totals, consensus_distance, mean_loss

ONE = {
    "loss": 3.0,
    "counted": 2,
    "samples": 5,
    "steps": 7,
    "bytes_sent": 10,
    "messages": 3,
    "waiting": 1.0,
    "seconds": 4.0,
}
OTHER = {
    "loss": 1.0,
    "counted": 3,
    "samples": 6,
    "steps": 4,
    "bytes_sent": 20,
    "messages": 4,
    "waiting": 2.0,
    "seconds": 6.0,
}
RESULT = Result(np.zeros(1), 0.5, 2.0, 10, 40, 0, 0, 0.0, 0.0, {}, (), ())


def test_totals_are_sums_but_for_the_furthest() -> None:
    totals = Totals.of([ONE, OTHER])
    assert totals == Totals(4.0, 5, 11, 7, 30, 7, 3.0, 6.0)
    assert totals.waiting_share(2) == 3.0 / 12.0
    assert totals._replace(seconds=0.0).waiting_share(2) == 0.0


def test_a_loss_is_the_mean_over_samples() -> None:
    assert mean_loss([(6.0, 2), (4.0, 8)]) == 1.0
    assert isnan(mean_loss([(0.0, 0)]))


def test_the_distance_is_the_mean_square_from_the_mean() -> None:
    replicas = [np.array([0.0, 0.0]), np.array([2.0, 0.0]), np.array([1.0, 3.0])]
    assert consensus_distance(replicas) == pytest.approx(((1 + 1) + (1 + 1) + 4) / 3)
    assert consensus_distance(replicas[:1]) == 0.0


def test_samples_a_second() -> None:
    assert RESULT.samples_per_second == 20.0
    assert isnan(replace(RESULT, seconds=0.0).samples_per_second)


@pytest.mark.parametrize(("number", "code"), [(SIGINT, 130), (SIGTERM, 143)])
def test_a_program_ends_with_the_code_of_the_signal(number: int, code: int) -> None:
    error: Any = Interrupted.by(number, RESULT)
    assert str(error) == "interrupted after step 10"
    assert (error.signal, error.result, error.code) == (number, RESULT, code)
    assert isinstance(error, KeyboardInterrupt)
    assert isinstance(error, SystemExit)


def test_at_a_prompt_it_is_a_ctrl_c_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    error = Interrupted.by(SIGINT, RESULT)
    assert isinstance(error, KeyboardInterrupt)
    assert not isinstance(error, SystemExit)
