"""One worker: every collective is over at once, in its own memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.unit.clock import Clock
from tests.unit.sessions import scripted
from tests.unit.values import beginning, worker

from loosestep.foundation.errors import WorkerFailed
from loosestep.lowering.requests import RollCall
from loosestep.requests import (
    AllGather,
    AllReduce,
    Barrier,
    Broadcast,
    Exchange,
    Fetch,
    Gradient,
    Mix,
    Push,
    Request,
    Sleep,
    Start,
    Wait,
    Weights,
)
from loosestep.transports import serial
from loosestep.transports.base import Task
from loosestep.transports.serial import Serial


def perform(*asked: Request) -> Any:
    session = Serial().open()
    session.run([Task(worker(0, 1), scripted(*asked), lambda request: 1)])
    return session


def test_a_reduction_of_one_is_the_buffer_itself() -> None:
    buf, out = beginning(0), np.empty(6)
    before = buf.tobytes()
    perform(AllReduce(buf), AllReduce(buf, "sum", 0.0), Broadcast(buf), Barrier(), AllGather(buf, out))
    assert buf.tobytes() == out.tobytes() == before


@pytest.mark.parametrize(("weight", "factor"), [(1.0, 1.0), (0.5, 0.5)])
def test_mixing_scales_by_the_own_weight(weight: float, factor: float) -> None:
    buf = np.array([2.0, 4.0])
    perform(Mix(buf, Weights(((0, weight),), ())))
    assert buf.tolist() == [2.0 * factor, 4.0 * factor]


def test_messages_to_oneself_arrive_in_order() -> None:
    into = [np.empty(2), np.empty(2)]
    perform(Exchange([(0, np.ones(2)), (0, np.zeros(2))], [(0, into[0]), (0, into[1])]))
    assert [each.tolist() for each in into] == [[1, 1], [0, 0]]


def test_a_variable_is_one_by_name() -> None:
    session: Any = Serial().open()
    shared = session.share(0, "c", np.ones(2))
    assert session.share(0, "c", np.zeros(2)) is shared
    into = np.empty(2)
    fetch, push = Fetch(shared, into), Push("axpy", (shared,), (np.ones(2),), (2.0,))
    session.run([Task(worker(0, 1), scripted(push, fetch), lambda request: 1)])
    assert into.tolist() == [3, 3]
    assert session.version(shared) == 1
    session.store(shared, np.zeros(2), 5)
    assert session.version(shared) == 5


def test_what_was_started_is_performed_when_it_is_waited_for() -> None:
    buf, out = np.ones(2), np.zeros(2)
    gather = AllGather(buf, out)
    seen = []

    def asked() -> Any:
        yield Start(gather)
        seen.append(out.tolist())
        yield Wait(gather)
        seen.append(out.tolist())

    Serial().open().run([Task(worker(0, 1), asked(), lambda request: 1)])
    assert seen == [[0, 0], [1, 1]]
    with pytest.raises(WorkerFailed, match="which was not started|waits for what was not started"):
        perform(Start(gather), Wait(gather), Wait(gather))


def test_a_call_is_answered_by_the_own_data() -> None:
    calls = [RollCall(1, present=True), RollCall(2, present=False)]
    perform(*calls)
    assert [call.answer for call in calls] == [[True], [False]]


def test_a_sleep_lets_time_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(0.0)
    monkeypatch.setattr(serial, "time", clock)
    perform(Sleep(2.5))
    assert clock.now == 2.5


def test_a_failure_names_the_worker_and_the_request() -> None:
    def compute(request: Request) -> int:
        raise ValueError("boo")

    one = worker(0, 1)
    one.round = 2
    with pytest.raises(WorkerFailed, match=r"^worker 0 failed in round 2, at Gradient\(\): ValueError: boo$"):
        Serial().open().run([Task(one, scripted(Gradient()), compute)])
