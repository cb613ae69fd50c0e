"""The driver of a worker, and the one error that says who failed, when and where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.unit.sessions import FakeSession, scripted
from tests.unit.values import worker

from loosestep.foundation.errors import Aborted, Diverged, PeerFailed, WorkerFailed
from loosestep.requests import AllReduce, Barrier, Gradient, Request, Update
from loosestep.transports.base import Task, drive, failure


def test_the_driver_computes_here_and_communicates_there() -> None:
    session, computed = FakeSession(), []
    asked = [Gradient(), AllReduce(np.zeros(2)), Update(), Barrier()]

    def compute(request: Request) -> int:
        computed.append(request)
        return 1

    drive(Task(worker(0, 1), scripted(*asked), compute), session.endpoint)
    assert computed == asked[::2]
    assert session.endpoint.performed == asked[1::2]
    assert session.endpoint.doing is asked[-1]


@pytest.mark.parametrize("at", range(4))
def test_a_failure_stops_the_stream_where_it_is(at: int) -> None:
    asked = [Gradient() for _ in range(4)]
    done: list[Request] = []

    def compute(request: Request) -> int:
        if len(done) == at:
            raise ZeroDivisionError
        done.append(request)
        return 1

    session = FakeSession()
    with pytest.raises(ZeroDivisionError):
        drive(Task(worker(0, 1), scripted(*asked), compute), session.endpoint)
    assert done == asked[:at]
    assert session.endpoint.doing is asked[at]


def test_a_failure_says_who_when_and_where_once() -> None:
    one, cause = worker(3, 4), KeyError("rows")
    one.round = 7
    error = failure(one, AllReduce(np.zeros(2)), cause)
    assert isinstance(error, WorkerFailed)
    assert str(error) == "worker 3 failed in round 7, at AllReduce(2 float64, 'mean', 1.0): KeyError: 'rows'"
    assert (error.rank, error.round, error.__cause__) == (3, 7, cause)
    assert "at the start of a round: " in str(failure(one, None, cause))


@pytest.mark.parametrize("error", [PeerFailed(1, "boo"), Diverged(0, 3), Aborted(), KeyboardInterrupt()])
def test_what_says_where_itself_is_left_as_it_is(error: Any) -> None:
    assert failure(worker(0, 2), None, error) is error
    one = WorkerFailed(1, 2, "x", ValueError("y"))
    assert failure(worker(0, 2), None, one) is one


def test_a_session_of_one_process_answers_for_itself() -> None:
    session: Any = FakeSession()
    decided: list[int] = []
    session.stop_protocol(lambda: 4, decided.append)()
    assert decided == [4]
    looks = iter([False, False, True])
    session.await_stop(lambda: next(looks))
    common = session.in_common("params", like := np.ones(3))
    assert common.tolist() == [1.0] * 3
    assert common is not like
