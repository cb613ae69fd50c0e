"""The calendar of virtual time: who goes on when, in numbers; and what happens where nobody can."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.values import beginnings, bits, drawn, reduced, worker

from loosestep.foundation.errors import Deadlock, Mismatch, WorkerFailed
from loosestep.lowering import forms
from loosestep.lowering.forms import Form
from loosestep.lowering.lowering import Lowering
from loosestep.lowering.requests import Drain, Drained, RollCall
from loosestep.requests import (
    AllReduce,
    Exchange,
    Fetch,
    Gradient,
    Push,
    Ready,
    Request,
    Sleep,
    Start,
    Update,
    Wait,
)
from loosestep.requests.links import Links
from loosestep.transports.base import Task
from loosestep.transports.simulated import Simulated

Script = Callable[[int], Iterator[Request]]
HALF = {"step_time": 2.0, "latency": 1.0, "bandwidth": 8.0}  # a float64 a second


def carry(n: int, script: Script, session: Any = None, **how: Any) -> Any:
    """Every worker's script to its end."""
    session = session or Simulated(n, **{**HALF, **how}).open(0)

    def compute(request: Request) -> int:
        return int(isinstance(request, (Gradient, Ready)))

    def task(rank: int) -> Task:
        one = worker(rank, n)
        one.links = session.links
        lowering = Lowering(session.native | {Gradient, Ready, Update}, one, session.unpriced, hosts=session.hosts)
        return Task(one, lowering.lower(script(rank)), compute)

    session.run([task(rank) for rank in range(n)])
    return session


def clocks(n: int, script: Script, **how: Any) -> list[float]:
    return list(carry(n, script, **how).clocks)


def test_steps_take_their_time_and_updates_none() -> None:
    assert clocks(2, lambda rank: iter([Gradient(), Update()] * (rank + 1))) == [2.0, 4.0]


def test_a_message_takes_latency_and_bytes_by_bandwidth() -> None:
    def script(rank: int) -> Iterator[Request]:
        yield Sleep(5.0) if rank == 0 else Sleep(0.0)
        yield Exchange([(1, np.ones(3))], ()) if rank == 0 else Exchange((), [(0, np.empty(3))])

    assert clocks(2, script) == [8.0, 9.0]  # 5 + 24 / 8 until it is sent, and 1 on its way


def test_messages_arrive_in_order_with_their_notes() -> None:
    into, notes = [np.empty(1), np.empty(1)], dict[int, float]()

    def script(rank: int) -> Iterator[Request]:
        for k in range(2):
            if rank == 0:
                yield Exchange([(1, np.full(1, k + 1.0))], (), note=k + 0.5)
            else:
                yield Exchange((), [(0, into[k])], 0.0, notes)

    carry(2, script)
    assert [each.tolist() for each in into] == [[1], [2]]
    assert notes == {0: 1.5}


@pytest.mark.parametrize("n", [2, 3, 5, 20])
@pytest.mark.parametrize("latency", [100.0, 1.0, 1e-3])
def test_an_allreduce_costs_what_is_said_and_folds_in_rank_order(n: int, latency: float) -> None:
    bufs = beginnings(n, 2 * n)
    wanted = reduced("mean", bufs)
    times = clocks(n, lambda rank: iter([AllReduce(bufs[rank])]), latency=latency)
    assert bits(bufs) == bits([wanted] * n)
    form = forms.of_all_reduce(n, bufs[0].nbytes, Links(latency, 8.0))
    hops = {Form.WHOLE: 1, Form.DIRECT: 2, Form.PAIRWISE: 2 * (n - 1)}[form]
    values = (n - 1 if form is Form.WHOLE else 2 * (n - 1) / n) * bufs[0].size
    assert times == pytest.approx([hops * latency + values] * n)


@drawn
@given(
    st.sampled_from([2, 3, 4, 6, 17]),
    st.lists(st.integers(0, 9), min_size=17, max_size=17),
    st.sampled_from([0.0, 1.0, 50.0]),
)
def test_the_closed_form_of_many_workers_is_that_of_the_messages(n: int, late: list[int], latency: float) -> None:
    def script(rank: int) -> Iterator[Request]:
        yield Sleep(float(late[rank]))
        yield AllReduce(np.ones(n), "sum")

    closed = Simulated(n, **{**HALF, "latency": latency}).open(0)
    closed.native |= {AllReduce}
    assert list(carry(n, script, closed).clocks) == pytest.approx(clocks(n, script, latency=latency))


def test_what_was_started_goes_on_beside() -> None:
    bufs = beginnings(2, 4)
    wanted = reduced("sum", bufs)

    def script(rank: int) -> Iterator[Request]:
        reduction = AllReduce(bufs[rank], "sum")
        yield Start(reduction)
        yield Gradient()
        yield Gradient()
        yield Wait(reduction)

    assert clocks(2, script) == [5.0, 5.0]  # latency and 4 s of bytes, the steps within
    assert bits(bufs) == bits([wanted] * 2)
    assert clocks(2, script, latency=0.25) == [4.25, 4.25]


def test_settling_costs_nothing_now_and_says_when_it_would_have_been_over() -> None:
    due = []

    def script(rank: int) -> Iterator[Request]:
        reduction, drained = AllReduce(np.ones(4), "sum"), Drained()
        yield Start(reduction)
        yield Drain(reduction, drained)
        due.append(drained.due)
        yield Sleep(1.0)
        yield Wait(drained)

    assert clocks(2, script) == [5.0, 5.0]
    assert due == [5.0, 5.0]


def test_a_fetch_sees_what_its_worker_pushed_before() -> None:
    session = Simulated(2, **HALF, center_bandwidth=8.0).open(0)
    shared = session.share(0, "c", np.zeros(1))
    seen = []

    def script(rank: int) -> Iterator[Request]:
        into = np.empty(1)
        yield Push("axpy", (shared,), (np.ones(1),), (1.0 + rank,))
        yield Fetch(shared, into)
        seen.append((rank, float(into[0])))

    carry(2, script, session)
    assert seen == [
        (0, 1.0),
        (1, 3.0),
    ]  # the pushes are there at 2 and 3 s, and each question comes behind its own
    assert session.version(shared) == 2


def test_with_uneven_data_all_make_as_many_rounds() -> None:
    rounds = [0] * 3

    def script(rank: int) -> Iterator[Request]:
        while True:
            call = RollCall(rounds[rank] + 1, present=rounds[rank] < 2 * rank)
            yield call
            if not call.answer[0]:
                return
            rounds[rank] += 1
            yield Gradient()

    carry(3, script)
    assert rounds == [4, 4, 4]


def test_where_nobody_can_go_on_every_stuck_worker_is_named() -> None:
    def script(rank: int) -> Iterator[Request]:
        if rank < 2:
            yield Exchange((), [(2, np.empty(1))])

    with pytest.raises(Deadlock) as error:
        carry(3, script)
    waits = "at Exchange(sends to [], receives from [2])"
    assert str(error.value) == f"nobody can go on: worker 0 in round 0 {waits}; worker 1 in round 0 {waits}"


@pytest.mark.parametrize("at", range(3))
def test_a_failure_in_the_middle_names_its_worker(at: int) -> None:
    def script(rank: int) -> Iterator[Request]:
        for step in range(3):
            if (rank, step) == (1, at):
                raise ValueError("boo")
            yield AllReduce(np.ones(2))

    session: Any = Simulated(2, **HALF).open(0)
    with pytest.raises(WorkerFailed, match=r"^worker 1 failed in round 0, at .*: ValueError: boo$"):
        carry(2, script, session)
    assert session.calendar.next() is None, "nothing is left that refers to the run"


def test_a_message_that_does_not_fit_is_refused() -> None:
    def script(rank: int) -> Iterator[Request]:
        yield Exchange([(1, np.ones(3))], ()) if rank == 0 else Exchange((), [(0, np.empty(2))])

    with pytest.raises(Mismatch, match="worker 0 sent 3 float64 to worker 1, which expects 2 float64 in round 0"):
        carry(2, script)


def test_the_clock_begins_where_a_resumed_run_stood() -> None:
    session: Any = Simulated(2, **HALF).open(0)
    session.resume(1, 10.0)
    carry(2, lambda rank: iter([Gradient()]), session)
    assert [session.now(rank) for rank in range(2)] == [2.0, 12.0]
