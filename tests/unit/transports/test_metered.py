"""What is counted as sent, as waiting and as computing, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tests.unit.clock import Clock
from tests.unit.sessions import Fake, FakeSession
from tests.unit.values import worker

from loosestep.requests import AllReduce, Barrier, Gradient, Push, Request, Shared, Sleep, Update
from loosestep.requests.worker import Worker
from loosestep.transports.metered import Meter, Metered

SHARED = Shared("c", 8, np.dtype(np.float64), None)


def watched(one: Worker, pairs: Sequence[tuple[Request, float]]) -> Meter:
    """A meter that has seen requests, each of which took so many seconds."""
    clock, meter = Clock(5.0), Meter()
    stream = meter.watch(one, (request for request, _ in pairs), clock)
    for (asked, seconds), request in zip(pairs, stream, strict=True):
        assert request is asked, "requests are not changed"
        clock.now += seconds
    return meter


def test_time_in_communication_is_waiting_and_time_in_computing_is_not() -> None:
    one = worker(0, 2)
    meter = watched(one, [(Gradient(), 1.0), (Barrier(), 0.25), (Update(), 2.0), (Sleep(1.0), 0.5)])
    assert (meter.waiting, one.communicating, one.computing) == (0.75, 0.75, 3.0)


def test_bytes_and_messages_are_what_a_request_costs() -> None:
    push = Push("axpy", (SHARED,), (np.zeros(8),), (1.0,))
    meter = watched(
        worker(0, 4), [(AllReduce(np.zeros(8)), 0), (AllReduce(np.zeros(4)), 0), (push, 0), (Barrier(), 0)]
    )
    assert meter.requests == {"AllReduce": [2, 12, 96 + 48], "Push": [1, 1, 64], "Barrier": [1, 2, 0]}
    assert (meter.messages, meter.bytes) == (15, 208)


def test_requests_of_one_type_that_cost_differently_are_counted_apart() -> None:
    wide, narrow = np.zeros(8), np.zeros(8, np.float32)
    asked = [AllReduce(wide), AllReduce(narrow), AllReduce(narrow), AllReduce(wide, group=(0, 1)), Barrier((0, 1))]
    meter = watched(worker(0, 4), [(request, 0) for request in [*asked, Barrier()]])
    assert meter.requests == {"AllReduce": [4, 6 + 6 + 6 + 2, 96 + 48 + 48 + 64], "Barrier": [2, 1 + 2, 0]}


def test_nothing_is_counted_while_unmetered() -> None:
    one = worker(0, 4)
    one.unmetered = True
    meter = watched(one, [(AllReduce(np.zeros(8)), 3.0), (Gradient(), 1.0)])
    assert (meter.bytes, meter.messages, meter.waiting, meter.requests) == (0, 0, 0.0, {})
    assert (one.communicating, one.computing) == (0.0, 0.0)


def test_computing_is_no_request_of_a_meter() -> None:
    assert watched(worker(0, 4), [(Gradient(), 1.0)]).requests == {}


def test_each_run_has_meters_of_its_own() -> None:
    metered = Metered(Fake(FakeSession(2)))
    session = metered.open()
    first = metered.meters[0]
    assert [session.meters[rank] is metered.meters[rank] for rank in range(2)] == [True, True]
    list(session.wrap(worker(0, 2), iter([AllReduce(np.zeros(8))])))
    assert first.bytes == 64
    metered.open()
    assert metered.meters[0].bytes == 0
    assert session.meters[0] is first, "the session of a run keeps those of its run"


def test_it_is_as_large_and_as_virtual_as_what_it_wraps() -> None:
    metered = Metered(Fake(FakeSession(3)))
    assert (metered.size, metered.virtual) == (3, False)
    with pytest.raises(TypeError, match="on must be a Transport"):
        Metered(3)  # type: ignore[arg-type]


def test_counts_can_be_read_while_a_worker_counts_what_is_new() -> None:
    """As a worker that evaluates reads those of the others, which are other threads."""
    meter = Meter()

    class Growing(list[int]):
        def __getitem__(self, place: Any) -> Any:
            meter.requests.setdefault(f"request {len(meter.requests)}", [0, 0, 0])
            return super().__getitem__(place)

    meter.requests["Fetch"] = Growing([1, 2, 3])
    assert (meter.messages, meter.bytes) == (2, 3)
