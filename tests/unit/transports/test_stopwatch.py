"""A worker's clock stands still between its pause and its proceed, and begins where a resumed run stood."""

from __future__ import annotations

import pytest
from tests.unit.clock import Clock

from loosestep.transports import stopwatch
from loosestep.transports.stopwatch import Stopwatch


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stopwatch, "perf_counter", clock)
    return clock


def test_zero_is_when_the_run_begins(clock: Clock) -> None:
    watch = Stopwatch()
    clock.now += 5
    watch.begin()
    clock.now += 2
    assert watch.now(0) == watch.now(1) == 2.0


def test_a_pause_is_left_out_of_the_clock_of_the_one_who_made_it(clock: Clock) -> None:
    watch = Stopwatch()
    clock.now += 1
    watch.pause(0)
    clock.now += 10
    assert (watch.now(0), watch.now(1)) == (1.0, 11.0)
    watch.proceed(0)
    clock.now += 1
    assert (watch.now(0), watch.now(1)) == (2.0, 12.0)
    for seconds in (3, 4):
        watch.pause(0)
        clock.now += seconds
        watch.proceed(0)
    assert watch.now(0) == 2.0


def test_a_resumed_run_goes_on_from_its_seconds(clock: Clock) -> None:
    watch = Stopwatch()
    watch.resume(1, 100.0)
    clock.now += 3
    assert (watch.now(0), watch.now(1)) == (3.0, 103.0)


def test_to_proceed_without_a_pause_changes_nothing(clock: Clock) -> None:
    watch = Stopwatch()
    clock.now += 3
    watch.proceed(0)
    assert watch.now(0) == 3.0


def test_the_clock_for_differences_goes_on_through_pauses(clock: Clock) -> None:
    watch = Stopwatch()
    seconds = watch.clock(0)
    before = seconds()
    watch.pause(0)
    clock.now += 7
    assert seconds() - before == 7.0
