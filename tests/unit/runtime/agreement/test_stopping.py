"""When all stop: after one step that none has begun, at the wish of any worker or a signal; asking never waits."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
from tests.unit.runtime.agreement.loops import Workers, all_of, alone
from tests.unit.sessions import FakeSession

import loosestep as ls
from loosestep.runtime.agreement.stopping import Stopping


def until_stopped(worker: Workers, asks_at: int | None, pause: float = 0.0, limit: int = 900) -> int:
    """Make steps until all are to stop; return how many were made."""
    while not worker.stop_at.now() and worker.worker.clock < limit:
        if worker.worker.clock == asks_at:
            worker.stop_at.ask()
        worker.steps(1)
        time.sleep(pause)
    return worker.worker.clock


@pytest.mark.parametrize("strategy", [ls.LocalSGD(4), ls.AllReduceSGD(), ls.EASGD(3)], ids=repr)
@pytest.mark.parametrize("who", [0, 2])
def test_all_stop_after_the_same_step_when_one_asks(strategy: ls.Strategy, who: int) -> None:
    def run(worker: Workers) -> Any:
        asks_at = 5 if worker.rank == who else None
        return until_stopped(worker, asks_at, pause=0.001 * (1 + worker.rank))

    found = all_of(3, run, strategy)
    assert found == [found[0]] * 3
    assert 6 <= found[0] < 900, "the step that had begun when one asked is made"


def test_all_may_ask_at_once() -> None:
    found = all_of(3, lambda worker: until_stopped(worker, worker.rank + 1))
    assert found == [found[0]] * 3
    assert 2 <= found[0] < 900


class Held:
    """A stop protocol in the hands of a test."""

    def __init__(self) -> None:
        self.session, self.begun, self.waited = FakeSession(2), 0, 0
        self.session.stop_protocol = self.protocol
        self.session.await_stop = self.wait
        self.worker = alone(self.session)
        self.stopping: Stopping = self.worker.stop_at
        self.decided_in_wait = 7

    def protocol(self, prepare: Any, decide: Any) -> Any:
        self.prepare, self.decide = prepare, decide
        return self.begin

    def begin(self) -> None:
        self.begun += 1

    def wait(self, decided: Any) -> None:
        self.waited += 1
        assert not decided()
        self.decide(self.decided_in_wait)
        assert decided()


@pytest.fixture
def held() -> Any:
    made = Held()
    yield made
    made.stopping.close()


def test_what_others_ask_and_decide_while_a_worker_still_begins_counts() -> None:
    session = FakeSession(2)

    def at_once(prepare: Any, decide: Any) -> Any:
        assert prepare() == 0
        decide(1)
        return lambda: None

    session.stop_protocol = at_once
    worker = alone(session)
    assert (worker.stop_at.asked, worker.stop_at.after) == (True, 1)
    assert worker.stop_at.now() is False
    worker.steps(1)
    assert worker.stop_at.now() is True
    worker.stop_at.close()


def test_without_a_wish_nobody_waits_and_the_step_that_may_be_begun_is_known(held: Held) -> None:
    for steps in range(3):
        assert held.stopping.now() is False
        assert held.stopping.next_step == steps + 1
        held.worker.steps(1)
    assert (held.begun, held.waited) == (0, 0)
    assert held.prepare() == 3


def test_asking_begins_once_and_never_waits(held: Held) -> None:
    held.stopping.ask()
    held.stopping.ask()
    assert (held.begun, held.waited) == (2, 0)
    held.prepare()
    held.stopping.ask()
    assert held.begun == 2, "it was asked for"


def test_after_a_wish_a_worker_waits_for_the_decision_and_stops_after_that_step(held: Held) -> None:
    held.worker.steps(1)
    held.stopping.now()
    assert held.prepare() == 2
    held.decided_in_wait = 3
    assert held.stopping.now() is False
    assert held.waited == 1
    held.worker.steps(1)
    assert held.stopping.now() is False
    held.worker.steps(1)
    assert held.stopping.now() is True
    assert held.waited == 1, "a decision is waited for once"


def test_of_two_decisions_the_first_counts(held: Held) -> None:
    held.decide(1)
    held.decide(5)
    assert held.stopping.after == 1
    assert held.stopping.now() is False
    held.worker.steps(1)
    assert held.stopping.now() is True


def test_a_worker_that_has_left_asks_for_nothing_and_holds_nobody_up(held: Held) -> None:
    held.worker.steps(1)
    held.stopping.now()
    held.worker.loop.over = True
    held.stopping.ask()
    assert held.begun == 0
    assert held.prepare() == 0
    assert held.stopping.now() is False
    assert held.waited == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_from_the_first_reading_until_the_end(held: Held, number: int) -> None:
    before = signal.getsignal(number)
    held.stopping.close()
    assert held.stopping.now() is False
    assert signal.getsignal(number) is not before
    os.kill(os.getpid(), number)
    assert (held.begun, held.waited) == (1, 0)
    held.stopping.close()
    assert signal.getsignal(number) is before
