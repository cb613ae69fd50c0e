"""Collectives of a host's workers that are advanced without waiting, in the order of their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.hosts import on_one_host
from tests.unit.values import beginnings, bits, drawn, reduced, worker

from loosestep import _core
from loosestep.foundation.errors import Mismatch
from loosestep.lowering.requests import IntraHost
from loosestep.requests import AllGather, AllReduce, Barrier, Broadcast
from loosestep.transports.processes.collective_slots import CollectiveSlot, blocking_calls
from loosestep.transports.processes.mapping import map_collectives

GROUP = (2, 5)


def hosts() -> list[Any]:
    return on_one_host(2, lambda calls: map_collectives(calls, (0, 1), _core.Host, "c"))  # type: ignore[arg-type]


def enter(slot: CollectiveSlot, rank: int, number: int, *requests: Any) -> Any:
    return slot.enter(IntraHost(0, number, 9, iter(requests)), worker(rank, 6))


def advance(slots: list[CollectiveSlot], times: int = 30) -> None:
    for _ in range(times):
        for slot in slots:
            slot.advance()


@drawn
@given(st.integers(1, 4), st.permutations(range(4)), st.permutations(range(4)))
def test_collectives_use_the_memory_in_the_order_of_their_numbers(
    count: int, one: list[int], other: list[int]
) -> None:
    """Each worker enters them in an order of its own."""
    slots = [CollectiveSlot(host, GROUP) for host in hosts()]
    bufs = [beginnings(2, 3 + k) for k in range(count)]
    wanted = [reduced("sum", each) for each in bufs]
    ended: list[tuple[int, int]] = []
    for place, order in enumerate((one, other)):
        for k in order:
            if k < count:
                operation = enter(slots[place], GROUP[place], k, AllReduce(bufs[k][place], "sum"), Barrier())
                operation.then = lambda place=place, k=k: ended.append((place, k))
        advance(slots, 2)
    advance(slots)
    assert [bits(each) for each in bufs] == [bits([total] * 2) for total in wanted]
    assert [k for place, k in ended if place == 0] == list(range(count))
    assert [k for place, k in ended if place == 1] == list(range(count))
    assert [slot.number for slot in slots] == [count, count]


def test_one_that_is_late_keeps_nobody_waiting() -> None:
    slots = [CollectiveSlot(host, GROUP) for host in hosts()]
    operation = enter(slots[0], 2, 0, Barrier())
    assert slots[0].advance() is False
    assert operation.left == 1
    enter(slots[1], 5, 0, Barrier())
    advance(slots)
    assert operation.left == 0


def test_a_gathering_and_a_broadcast_by_ranks_of_the_run() -> None:
    calls = [blocking_calls(host, GROUP, 0.0) for host in hosts()]
    pieces, outs = beginnings(2, 2), [np.empty(4), np.empty(4)]
    bufs = beginnings(2)
    wanted = bufs[1].copy()
    for make in (
        lambda place: AllGather(pieces[place], outs[place]),
        lambda place: Broadcast(bufs[place], 5),
    ):
        asked = [make(place) for place in range(2)]
        for _ in range(3):
            said = [calls[place][type(asked[place])](asked[place]) for place in range(2)]
            if said == ["done", "done"]:
                break
            asked = [asked[0], asked[1]]
            if said[1] == "done":
                assert calls[0][type(asked[0])](asked[0]) == "done"
                break
    assert bits(outs) == bits([np.concatenate(pieces)] * 2)
    assert bits(bufs) == bits([wanted] * 2)


def test_a_mismatch_names_ranks_of_the_run_and_the_round() -> None:
    slots = [CollectiveSlot(host, GROUP) for host in hosts()]
    enter(slots[0], 2, 0, AllReduce(np.ones(2)))
    enter(slots[1], 5, 0, AllReduce(np.ones(3)))
    slots[0].advance()
    with pytest.raises(Mismatch, match=r"rank 5\b.*, in round 0$"):
        slots[1].advance()
