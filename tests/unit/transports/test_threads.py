"""Ends of workers that share memory, moved by one thread: what is posted by all is done, in the bits of a fold."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.clock import Clock
from tests.unit.values import beginnings, bits, drawn, reduced, worker, workers

from loosestep.foundation.errors import Aborted, Mismatch, TimedOut, WorkerFailed
from loosestep.lowering.requests import RollCall
from loosestep.requests import (
    AllGather,
    AllReduce,
    Barrier,
    Broadcast,
    Exchange,
    Gradient,
    Mix,
    Request,
    Start,
    Wait,
    Weights,
)
from loosestep.transports import threads
from loosestep.transports.base import Task
from loosestep.transports.threads import MAX_IN_FLIGHT, HangDetector, Threads, ThreadsEndpoint, ThreadsSession


def opened(n: int, deadline: float = 600.0) -> list[ThreadsEndpoint]:
    session = ThreadsSession(Threads(n, deadline))
    for end, one in zip(session.endpoints, workers(n), strict=True):
        end.worker = one
    return session.endpoints


def perform(end: ThreadsEndpoint, *asked: Request) -> None:
    for request in asked:
        end.handlers[type(request)](request)


def together(ends: list[ThreadsEndpoint], requests: list[Any]) -> None:
    """A collective of all: each posts, then each completes."""
    for end, request in zip(ends, requests, strict=True):
        perform(end, Start(request))
    for end, request in zip(ends, requests, strict=True):
        perform(end, Wait(request))


@pytest.mark.parametrize("op", ["sum", "mean", "max", "min"])
@pytest.mark.parametrize("n", range(1, 6))
def test_a_reduction_is_a_left_fold_in_rank_order(op: Any, n: int) -> None:
    bufs = beginnings(n, 37)
    wanted = reduced(op, bufs)
    together(opened(n), [AllReduce(buf, op) for buf in bufs])
    assert bits(bufs) == bits([wanted] * n)


@pytest.mark.parametrize("weights", [(1.0, 0.0, 2.5), (0.0, 0.0, 3.0), (2.0, 2.0, 2.0)])
def test_a_mean_is_weighted(weights: tuple[float, ...]) -> None:
    bufs = beginnings(3, 5)
    wanted = reduced("mean", bufs, weights)
    together(opened(3), [AllReduce(buf, "mean", weight) for buf, weight in zip(bufs, weights, strict=True)])
    assert bits(bufs) == bits([wanted] * 3)


def test_the_other_collectives() -> None:
    ends, pieces, outs = opened(3), beginnings(3, 2), [np.empty(6) for _ in range(3)]
    together(ends, [AllGather(piece, out) for piece, out in zip(pieces, outs, strict=True)])
    assert bits(outs) == bits([np.concatenate(pieces)] * 3)
    bufs = beginnings(3)
    wanted = bufs[1].copy()
    together(ends, [Broadcast(buf, 1) for buf in bufs])
    assert bits(bufs) == bits([wanted] * 3)
    together(ends, [Barrier()] * 3)
    group = beginnings(3)
    wanted = group[2] + group[0]
    together([ends[2], ends[0]], [AllReduce(group[rank], "sum", group=(2, 0)) for rank in (2, 0)])
    assert bits([group[0], group[2]]) == bits([wanted] * 2)


def test_mixing_reads_what_neighbours_had() -> None:
    bufs = beginnings(2)
    rows = [((0, 0.75), (1, 0.25)), ((0, 0.5), (1, 0.5))]
    wanted = [row[0][1] * bufs[0] + row[1][1] * bufs[1] for row in rows]
    asked = [Mix(bufs[rank], Weights(rows[rank], (1 - rank,))) for rank in range(2)]
    tasks = [Task(worker(rank, 2), iter([asked[rank]]), lambda request: 1) for rank in range(2)]
    Threads(2).open().run(tasks)  # each waits until the other has read
    assert bits(bufs) == bits(wanted)


@drawn
@given(st.integers(1, 5), st.data())
def test_what_was_started_may_be_waited_for_in_any_order(count: int, data: st.DataObject) -> None:
    ends, bufs = opened(3), [beginnings(3, 3 + k) for k in range(count)]
    wanted = [reduced("sum", each) for each in bufs]
    asked = [[AllReduce(bufs[k][rank], "sum") for k in range(count)] for rank in range(3)]
    for rank in data.draw(st.permutations(range(3))):
        perform(ends[rank], *map(Start, asked[rank]))
    waits = data.draw(st.permutations([(rank, k) for rank in range(3) for k in range(count)]))
    for rank, k in waits:
        perform(ends[rank], Wait(asked[rank][k]))
    assert [bits(each) for each in bufs] == [bits([total] * 3) for total in wanted]


def test_more_than_there_is_room_for_may_be_started() -> None:
    """The oldest is completed early, and its wait is over at once."""
    ends, count = opened(2), 2 * MAX_IN_FLIGHT + 5
    bufs = [[np.full(2, rank + k + 1.0) for k in range(count)] for rank in range(2)]
    asked = [[AllReduce(buf, "sum") for buf in each] for each in bufs]
    for k in range(count):
        for rank in range(2):
            perform(ends[rank], Start(asked[rank][k]))
            assert len(ends[rank].begun) <= MAX_IN_FLIGHT
    for rank in range(2):
        perform(ends[rank], *map(Wait, asked[rank]))
        assert [buf.tolist() for buf in bufs[rank]] == [[2 * k + 3.0] * 2 for k in range(count)]
        with pytest.raises(RuntimeError, match="waits for what was not started"):
            perform(ends[rank], Wait(asked[rank][0]))


def test_what_does_not_fit_is_refused_with_the_round() -> None:
    ends = opened(2)
    ends[1].worker.round = 4
    first, second = AllReduce(np.zeros(2)), AllReduce(np.zeros(3))
    perform(ends[0], Start(first))
    perform(ends[1], Start(second))
    with pytest.raises(Mismatch, match=r"rank 1 .*3.*, in round 4$"):
        perform(ends[1], Wait(second))
    with pytest.raises(Mismatch, match=r"in round 0$"):
        perform(ends[0], Wait(first))


# --- messages -----------------------------------------------------------------------------------------------


def test_messages_of_one_tag_arrive_in_order_and_tags_do_not_mix() -> None:
    ends, into = opened(2), {place: np.empty(1) for place in ("a", "b", "c")}
    for value, tag in ((1.0, 7), (2.0, 8), (3.0, 7)):
        perform(ends[0], Exchange([(1, np.full(1, value))], (), note=value, tag=tag))
    notes: dict[int, float] = {}
    perform(ends[1], Exchange((), [(0, into["b"])], tag=8))
    perform(ends[1], Exchange((), [(0, into["a"])], tag=7), Exchange((), [(0, into["c"])], 0.0, notes, tag=7))
    assert [float(into[place][0]) for place in "abc"] == [1, 2, 3]
    assert notes == {0: 3.0}


def test_a_message_is_copied_when_it_is_sent() -> None:
    ends, buf, into = opened(2), np.ones(2), np.empty(2)
    perform(ends[0], Exchange([(1, buf)], ()))
    buf[:] = 5
    perform(ends[1], Exchange((), [(0, into)]))
    assert into.tolist() == [1, 1]


def test_receives_are_filled_in_the_order_in_which_they_began() -> None:
    ends, first, second = opened(2), np.empty(1), np.empty(1)
    early, late = Exchange((), [(0, first)]), Exchange((), [(0, second)])
    perform(ends[1], Start(early), Start(late))
    for value in (1.0, 2.0):
        perform(ends[0], Exchange([(1, np.full(1, value))], ()))
    perform(ends[1], Wait(late), Wait(early))
    assert (first.tolist(), second.tolist()) == ([1], [2])


def test_a_message_of_another_size_is_refused() -> None:
    ends = opened(2)
    perform(ends[0], Exchange([(1, np.ones(2))], ()))
    with pytest.raises(Mismatch, match="worker 0 sent 2 float64 to worker 1, which expects 3 float64 in round 0"):
        perform(ends[1], Exchange((), [(0, np.ones(3))]))


def test_a_call_is_answered_when_another_has_data() -> None:
    ends, present, ended = opened(2), RollCall(1, present=True), RollCall(1, present=False)
    perform(ends[0], present)
    perform(ends[1], ended)
    assert (present.answer, ended.answer) == ([True], [True])


# --- failures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait", [Barrier(), Exchange((), [(0, np.zeros(1))]), RollCall(1, present=False)])
def test_an_abort_ends_every_wait(wait: Request) -> None:
    ends = opened(2)
    ends[0].session.abort()
    with pytest.raises(Aborted):
        perform(ends[1], wait)


def test_who_is_still_past_the_deadline_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(threads, "time", clock)
    one, two, _ = opened(3, deadline=10.0)
    two.doing, two.worker.round = Gradient(), 4
    watch = HangDetector(one, Barrier())
    watch.check([1, 2])
    clock.now += 9
    watch.check([1, 2])
    two.worker.clock += 1  # a sign of life
    clock.now += 2
    watch.check([1, 2])
    clock.now += 10
    with pytest.raises(TimedOut) as error:
        watch.check([1, 2])
    assert str(error.value) == "worker 0 waited 10 s at Barrier() for worker 1, which is at Gradient() in round 4"


def test_one_that_has_ended_is_said_to_have(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(threads, "time", clock)
    one, two = opened(2, deadline=10.0)
    two.done = True
    watch = HangDetector(one, Barrier())
    watch.check([1])
    clock.now += 10
    with pytest.raises(TimedOut, match="for worker 1, which has ended$"):
        watch.check([1])


@pytest.mark.parametrize("at", range(3))
def test_the_first_failure_stops_all(at: int) -> None:
    """Wherever it comes; the other worker waits for it then, and no thread is left."""
    session, count = Threads(2).open(), threading.active_count()

    def asked(rank: int) -> Iterator[Request]:
        for step in range(3):
            if (rank, step) == (1, at):
                raise ValueError("boo")
            yield AllReduce(np.ones(2))

    tasks = [Task(worker(rank, 2), asked(rank), lambda request: 1) for rank in range(2)]
    with pytest.raises(WorkerFailed, match=r"^worker 1 failed in round 0, at .*: ValueError: boo$"):
        session.run(tasks)
    assert threading.active_count() == count
