"""Who still has data: those whose data ended stay until it is known whether another has some."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.values import drawn

from loosestep.lowering.requests import RollCall
from loosestep.transports.attendance import Roll


def test_who_has_data_goes_on_at_once() -> None:
    roll, call = Roll(3), RollCall(1, present=True)
    assert roll.say(2, call, "two") == [("two", call)]
    assert call.answer == [True]


def test_who_has_none_waits_until_another_has() -> None:
    roll, waiting, present = Roll(2), RollCall(1, present=False), RollCall(1, present=True)
    assert roll.say(0, waiting, "zero") == []
    assert [who for who, _ in roll.say(1, present, "one")] == ["one", "zero"]
    assert waiting.answer == [True]


def test_data_of_a_round_before_is_no_data_for_this_one() -> None:
    roll, waiting = Roll(2), RollCall(2, present=False)
    roll.say(1, RollCall(1, present=True), "one")
    assert roll.say(0, waiting, "zero") == []
    assert waiting.answer == []
    roll.say(1, RollCall(2, present=True), "one")
    assert waiting.answer == [True]


def test_when_all_have_ended_all_hear_no() -> None:
    roll = Roll(3)
    calls = [RollCall(1, present=False) for _ in range(3)]
    assert roll.say(0, calls[0], 0) == roll.say(1, calls[1], 1) == []
    assert [who for who, _ in roll.say(2, calls[2], 2)] == [0, 1, 2]
    assert [call.answer for call in calls] == [[False]] * 3


def test_one_alone_knows_at_once() -> None:
    roll, call = Roll(1), RollCall(1, present=False)
    assert roll.say(0, call, "me") == [("me", call)]
    assert call.answer == [False]


@drawn
@given(st.lists(st.integers(0, 6), min_size=1, max_size=5), st.integers(0, 2**32))
def test_with_uneven_data_all_stay_for_the_longest(lengths: list[int], seed: int) -> None:
    """Each worker calls round after round, in any order; all make as many rounds as the longest has data for."""
    draw, roll, size = random.Random(seed), Roll(len(lengths)), len(lengths)
    rounds, calls = [0] * size, [None] * size
    over: set[int] = set()
    while len(over) < size:
        rank = draw.choice([rank for rank in range(size) if rank not in over])
        call: RollCall | None = calls[rank]  # type: ignore[assignment]
        if call is None:
            asked = RollCall(rounds[rank] + 1, present=rounds[rank] < lengths[rank])
            calls[rank] = asked  # type: ignore[call-overload]
            roll.say(rank, asked, rank)
        elif call.answer:
            assert len(call.answer) == 1, "a call is answered once"
            rounds[rank] += call.answer[0]
            over |= set() if call.answer[0] else {rank}
            calls[rank] = None
    assert rounds == [max(lengths)] * size
    assert roll.waiting == []


@pytest.mark.parametrize("size", [1, 4])
def test_nobody_is_answered_twice(size: int) -> None:
    roll, waiting = Roll(size + 1), RollCall(1, present=False)
    roll.say(0, waiting, 0)
    for round_ in (1, 2, 3):
        roll.say(1, RollCall(round_, present=True), 1)
    assert waiting.answer == [True]
