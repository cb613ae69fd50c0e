"""What every transport promises: messages, shared variables, overlap, and that it is a value."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.contract.scripted import Primitive, ask, beginning
from tests.contract.transports.transports import KINDS, MANY, WRAPPERS, beginnings, check, each, fold

import loosestep as ls
from loosestep.foundation.errors import LoosestepError, TimedOut, WorkerFailed
from loosestep.requests import (
    AllReduce,
    Barrier,
    Broadcast,
    Elastic,
    Exchange,
    Fetch,
    Gradient,
    Mix,
    Push,
    Request,
    Start,
    Wait,
)
from loosestep.requests.worker import Worker
from loosestep.transports.base import Transport


def only_overlapping(on: Transport) -> None:
    """In real time, transports overlap what they perform themselves."""
    if isinstance(on, Primitive) and not on.on.virtual:
        pytest.skip("collectives made of messages do not overlap in real time")


@each(2, 3, 5)
def test_exchange_sends_to_all_and_keeps_the_order_of_a_tag(on: Transport) -> None:
    n = on.size
    got: dict[int, Any] = {}

    def script(worker: Worker) -> Iterator[Request]:
        others = [rank for rank in range(n) if rank != worker.rank]
        for tag in (7, 8):
            for number in (1.0, 2.0):
                yield Exchange(sends=[(to, np.array([worker.rank, tag, number])) for to in others], tag=tag)
        rows = []
        for tag in (8, 7):
            for _ in range(2):
                room = {source: np.empty(3) for source in others}
                yield Exchange(recvs=list(room.items()), tag=tag)
                rows.append([room[source].tolist() for source in others])
        got[worker.rank] = rows

    ask(script, on)
    for rank in range(n):
        others = [other for other in range(n) if other != rank]
        assert got[rank] == [[[other, tag, number] for other in others] for tag in (8, 7) for number in (1.0, 2.0)]


@each(2, 3, 5)
def test_what_is_sent_is_what_it_was_when_it_was_sent(on: Transport) -> None:
    n = on.size

    def script(worker: Worker) -> Iterator[Request]:
        mine, room = worker.params.copy(), np.empty_like(worker.params)
        yield Exchange(sends=[((worker.rank + 1) % n, mine)])
        mine.fill(np.nan)
        yield Exchange(recvs=[((worker.rank - 1) % n, room)])
        worker.params[:] = room

    check(ask(script, on), [beginning((rank - 1) % n) for rank in range(n)])


@each(1, 2, 3, 5)
def test_a_shared_variable_keeps_every_addition(on: Transport) -> None:
    def script(worker: Worker) -> Iterator[Request]:
        shared = worker.shared("sum", like=np.zeros(6))
        yield Push("axpy", (shared,), (np.full(6, 1.0 + worker.rank),), (1.0,))
        yield Barrier()
        yield Push("axpy", (shared,), (np.full(6, 10.0),), (1.0,))
        yield Barrier()
        yield from settle(worker)
        yield Fetch(shared, into=worker.params)

    total = sum(11.0 + rank for rank in range(on.size))
    check(ask(script, on), [np.full(6, total)] * on.size)


def settle(worker: Worker) -> Iterator[Request]:
    """Let what was added arrive, where time is virtual."""
    for _ in range(3):
        yield Gradient()


@each(1, 2, 3, 5)
def test_elastic_conserves_the_sum_and_moves_both(on: Transport) -> None:
    shareds: list[Any] = []

    def script(worker: Worker) -> Iterator[Request]:
        center = worker.shared("center", like=np.full(6, 2.0))
        yield Elastic(worker.params, center, 0.25)
        yield Barrier()
        yield from settle(worker)
        got = np.empty(6)
        yield Fetch(center, into=got)
        shareds.append(got)

    replicas = ask(script, on)
    before = np.sum(beginnings(on.size), axis=0) + 2.0
    assert np.allclose(np.sum(replicas, axis=0) + shareds[0], before)
    if on.size == 1:
        check(replicas, [beginning(0) - 0.25 * (beginning(0) - 2.0)])


# --- overlap -----------------------------------------------------------------------------------------------


@each(1, 2, 3, 5)
def test_started_requests_may_be_waited_for_in_another_order(on: Transport) -> None:
    only_overlapping(on)
    n = on.size

    def script(worker: Worker) -> Iterator[Request]:
        first, second, third = (worker.params[part : part + 2] for part in (0, 2, 4))
        ring = ls.Ring().weights(worker.rank, n)
        asked = [AllReduce(first, op="sum"), Mix(second, ring), Broadcast(third, root=n - 1)]
        for request in asked:
            yield Start(request)
        for place in (2, 0, 1) if worker.rank % 2 else (1, 2, 0):
            yield Wait(asked[place])

    xs = beginnings(n)
    wanted = []
    for rank in range(n):
        mixed = fold(np.add, [w * xs[other][2:4] for other, w in ls.Ring().weights(rank, n).row])
        wanted.append(np.concatenate([fold(np.add, xs)[:2], mixed, xs[n - 1][4:]]))
    check(ask(script, on), wanted)


@each(1, 3)
def test_a_hundred_requests_may_be_under_way(on: Transport) -> None:
    only_overlapping(on)

    def script(worker: Worker) -> Iterator[Request]:
        asked = [AllReduce(worker.params[place : place + 1], op="sum") for place in range(100)]
        for request in asked:
            yield Start(request)
        for request in reversed(asked):
            yield Wait(request)

    check(ask(script, on, size=100, rounds=2), [on.size * fold(np.add, beginnings(on.size, 100))] * on.size)


@each(1, 3)
def test_waiting_for_what_was_not_started_is_an_error(on: Transport) -> None:
    def script(worker: Worker) -> Iterator[Request]:
        yield Wait(AllReduce(worker.params))

    with pytest.raises(WorkerFailed, match=r"waits for .*(what|which it) .*not start"):
        ask(script, on)


# --- values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_transport_is_a_value_that_prints_as_it_was_written(kind: type[Transport]) -> None:
    on = kind.example()
    assert eval(repr(on), vars(ls).copy()) == on
    assert pickle.loads(pickle.dumps(on)) == on
    assert on.size >= 1


@pytest.mark.parametrize("kind", MANY)
@pytest.mark.parametrize(
    ("n", "error", "sentence"),
    [
        (0, ValueError, "n must be at least 1, got 0"),
        (2.0, TypeError, "n must be an integer, got 2.0"),
        (True, TypeError, "n must be an integer, got True"),
    ],
)
def test_the_number_of_workers_is_checked(kind: Any, n: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=f"^{sentence}$"):
        kind(n)


@pytest.mark.parametrize("kind", WRAPPERS)
def test_a_wrapper_keeps_what_it_wraps(kind: Any) -> None:
    for inner in (many(3) for many in MANY):
        on = replace(kind.example(), on=inner)
        assert (on.size, on.virtual) == (3, inner.virtual)
    assert issubclass(TimedOut, LoosestepError)
