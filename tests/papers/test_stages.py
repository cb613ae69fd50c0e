"""Schedules of strategies: where a part ends, what the next one begins with, and that a crash changes nothing."""

from __future__ import annotations

from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.contract.problem import facts
from tests.papers.problems import EQUAL, RATE, Array, difference, quadratics

import loosestep as ls
from loosestep.foundation.errors import WorkerFailed

PROBLEM = quadratics(4)


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk is tested with checkpoints; here it would only take time."""
    monkeypatch.setattr("os.fsync", lambda file: None)


HEAVY = ls.Momentum(RATE, 0.7)
BOTH = [ls.Simulated(4), ls.Threads(4)]


def run(strategy: ls.Strategy, steps: int, on: Any = None, **options: Any) -> ls.Result:
    options = {"optimizer": HEAVY, "steps_per_epoch": 6, "on": on or ls.Simulated(4), "steps": steps, **options}
    return ls.run(strategy, PROBLEM.gradient, PROBLEM.start, lambda rank, size: repeat(rank), **options)


class Replicas:
    """All replicas and velocities, moved by the recursions."""

    def __init__(self) -> None:
        self.x, self.v = PROBLEM.starts(), np.zeros((4, 5))

    def local(self, period: int, steps: int) -> None:
        for step in range(1, steps + 1):
            self.v = 0.7 * self.v - RATE * PROBLEM.gradients(self.x)
            self.x = self.x + self.v
            if step % period == 0:
                self.x = np.tile(self.x.mean(axis=0), (4, 1))

    def together(self, steps: int) -> None:
        for _ in range(steps):
            self.v = 0.7 * self.v - RATE * PROBLEM.gradients(self.x).mean(axis=0)
            self.x = self.x + self.v

    def switch(self) -> None:
        self.x, self.v = (np.tile(each.mean(axis=0), (4, 1)) for each in (self.x, self.v))

    @property
    def mean(self) -> Array:
        return np.asarray(self.x.mean(axis=0))


@pytest.mark.parametrize("on", BOTH, ids=repr)
def test_post_local_sgd_and_back_follow_their_recursions(on: Any) -> None:
    """The second part ends inside a round, which ends there."""
    strategy = ls.Stages((ls.AllReduceSGD(), 2), (ls.LocalSGD(4), 1.5), (ls.AllReduceSGD(), None))
    expected = Replicas()
    expected.together(12)
    expected.switch()
    expected.local(4, 9)
    expected.switch()
    expected.together(7)
    assert difference(run(strategy, 28, on).params, expected.mean) < EQUAL


def test_two_parts_of_one_method_are_the_method() -> None:
    one = ls.LocalSGD(3, momentum="average")
    twice = run(ls.Stages((one, 1), (one, None)), 24)
    assert difference(twice.params, run(one, 24).params) < EQUAL


@pytest.mark.parametrize("on", BOTH, ids=repr)
@pytest.mark.parametrize(
    "strategy", [ls.EASGD(3, 0.0), ls.SyncEASGD(3, 0.0), ls.EASGD(4), ls.Downpour(2)], ids=repr
)
def test_a_center_begins_at_the_consensus_to_the_bit(on: Any, strategy: ls.Strategy) -> None:
    """With rate 0 afterwards nothing moves: the center is where S-SGD had come to."""
    rates = ls.schedules.StepDecay(RATE, at=(6,), factor=1e-300)
    before = run(ls.AllReduceSGD(), 6, on, optimizer=ls.SGD(RATE))
    after = run(ls.Stages((ls.AllReduceSGD(), 1), (strategy, None)), 9, on, optimizer=ls.SGD(rates))
    assert after.params.tobytes() == before.params.tobytes()


@pytest.mark.parametrize("on", BOTH, ids=repr)
def test_from_a_center_all_go_on_from_the_center(on: Any) -> None:
    """Asynchronous workers meet at the switch; with moving rate 0 their center stood still."""
    strategy = ls.Stages((ls.EASGD(4, 0.0), 2), (ls.AllReduceSGD(), None))
    found = run(strategy, 20, on, optimizer=ls.SGD(RATE)).params
    assert difference(found, run(ls.AllReduceSGD(), 8, optimizer=ls.SGD(RATE)).params) < EQUAL


THREE = ls.Stages((ls.AllReduceSGD(), 1), (ls.LocalSGD(period=4), 1), (ls.SyncEASGD(period=2), None))
MIXED = ls.Stages((ls.EASGD(4), 1), (ls.LocalSGD(4), 1), (ls.EASGD(period=3), None))


@pytest.mark.parametrize("strategy", [THREE, MIXED], ids=repr)
@pytest.mark.parametrize("every", [3, 4], ids=lambda every: f"every {every}")
def test_killed_in_any_part_it_resumes_to_the_same_bits(strategy: ls.Strategy, every: int, tmp_path: Path) -> None:
    """Checkpoints are before, at and after the switches at steps 6 and 12."""
    on, crashed = ls.Simulated(4, stragglers=ls.stragglers.LogNormal()), 0
    whole = run(strategy, 20, on, checkpoint=tmp_path / "whole", checkpoint_every=every)
    for request in range(15, 200, 11):
        options: dict[str, Any] = {"checkpoint": tmp_path / str(request), "checkpoint_every": every}
        try:
            run(strategy, 20, ls.Failing(on, rank=1, at_request=request), **options)
        except WorkerFailed:
            again = run(strategy, 20, on, resume=True, **options)
            assert facts(again) == facts(whole), f"killed at request {request}"
            assert again.seconds == whole.seconds
            crashed += 1
    assert crashed >= 6


def test_other_workers_go_on_in_the_part_that_was_running(tmp_path: Path) -> None:
    run(THREE, 8, checkpoint=tmp_path)
    result = run(THREE, 20, ls.Simulated(2), checkpoint=tmp_path, resume=True)
    assert [worker.steps for worker in result.workers] == [20, 20]


def test_workers_without_data_come_along() -> None:
    batches = lambda rank, size: iter([rank] * (3, 30, 9, 14)[rank])  # noqa: E731
    for on in BOTH:
        result = ls.run(MIXED, PROBLEM.gradient, PROBLEM.start, batches, on=on, steps_per_epoch=6)
        assert [worker.steps for worker in result.workers] == [3, 30, 9, 14]
        assert np.isfinite(result.params).all()


def test_a_switch_sends_what_it_says() -> None:
    """Two parts of S-SGD: no parameters, one mean of the velocity, five values that go whole to three others."""
    one, two = (
        run(strategy, 12).bytes_sent
        for strategy in (ls.AllReduceSGD(), ls.Stages((ls.AllReduceSGD(), 1), (ls.AllReduceSGD(), None)))
    )
    assert two - one == 3 * 5 * 8


def test_what_is_missing_is_said() -> None:
    with pytest.raises(ValueError, match="counts epochs: say steps_per_epoch, how many local steps one has"):
        run(THREE, 5, steps_per_epoch=None)


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ((), "at least one pair"),
        (((ls.AllReduceSGD(), 3),), "only the last part must have None for its epochs"),
        (((ls.AllReduceSGD(), None), (ls.EASGD(), None)), "only the last part must have None for its epochs"),
        (((ls.Hogwild(), 1), (ls.EASGD(), None)), "has parameters that all workers share"),
        (((THREE, 1), (ls.EASGD(), None)), "has stages itself"),
        (((ls.EASGD(), 0), (ls.EASGD(), None)), "epochs must be above 0"),
    ],
)
def test_bad_parts_are_refused(parts: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ls.Stages(*parts)
