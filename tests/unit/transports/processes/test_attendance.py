"""Roll calls by message: with uneven data all stay for the longest, and all hear when it is over."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.nodes import Node, nodes, turn
from tests.unit.values import drawn

from loosestep.lowering.requests import RollCall
from loosestep.transports.processes.attendance import Attendance
from loosestep.transports.processes.wire import Kind


def call(node: Node, round_: int, present: bool) -> tuple[RollCall, Any]:
    request = RollCall(round_, present)
    return request, node.engine.begin(request, node.worker)


@drawn
@given(st.lists(st.integers(0, 6), min_size=1, max_size=5), st.integers(0, 2**32))
def test_all_make_as_many_rounds_as_the_longest_has_data_for(lengths: list[int], seed: int) -> None:
    all_ = nodes(len(lengths), seed)
    rounds, over = [0] * len(lengths), [False] * len(lengths)
    open_: list[Any] = [None] * len(lengths)
    for _ in range(1000):
        if all(over):
            break
        for node in all_:
            rank = node.rank
            if over[rank]:
                continue
            if open_[rank] is None:
                open_[rank] = call(node, rounds[rank] + 1, rounds[rank] < lengths[rank])
            request, operation = open_[rank]
            if not operation.left:
                assert len(request.answer) == 1
                over[rank] = not request.answer[0]
                rounds[rank] += request.answer[0]
                open_[rank] = None
        turn(all_)
    assert all(over)
    assert rounds == [max(lengths)] * len(lengths)


@pytest.mark.parametrize("rank", [0, 1])
def test_one_that_has_data_waits_for_nobody(rank: int) -> None:
    all_ = nodes(2)
    request, operation = call(all_[rank], 1, True)
    assert (request.answer, operation.left) == ([True], 0)


def test_one_without_data_waits_until_it_is_known() -> None:
    all_ = nodes(3)
    request, operation = call(all_[2], 1, False)
    call(all_[1], 1, False)
    turn(all_, 20)
    assert operation.left == 1
    call(all_[0], 1, True)
    turn(all_, 20)
    assert (request.answer, operation.left) == ([True], 0)


@pytest.mark.parametrize("present", [True, False])
def test_rank_0_keeps_the_roll(present: bool) -> None:
    """Others tell it for which round, and whether they have data."""
    _, other = nodes(2)
    Attendance(other.mailbox).call(RollCall(3, present), other.worker)
    (header,) = other.net.on_the_way(1, 0)
    assert (header.kind, header.round, bool(header.note)) == (Kind.ROLL, 3, present)
