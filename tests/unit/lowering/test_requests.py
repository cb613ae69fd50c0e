"""The runtime's own requests: what they say of themselves, and what they start with."""

from __future__ import annotations

import numpy as np

from loosestep.lowering.requests import Drain, Drained, IntraHost, RollCall, Script
from loosestep.requests import AllReduce, Communication, Wait


def test_they_name_what_they_stand_for() -> None:
    """Errors and notices name requests by these texts."""
    reduction = AllReduce(np.zeros(3, np.float32), "sum")
    assert str(Script(reduction, iter(()))) == str(reduction) == "AllReduce(3 float32, 'sum', 1.0)"
    assert str(Drain(reduction, Drained())) == "Drain(AllReduce(3 float32, 'sum', 1.0))"
    assert str(Wait(Script(reduction, iter(())))) == "Wait(AllReduce(3 float32, 'sum', 1.0))"
    assert str(RollCall(3, present=True)) == "RollCall(3)"
    assert str(IntraHost(1, 4, 99, iter(()))) == "IntraHost(1, 4, 99)"


def test_a_roll_call_has_an_answer_of_its_own() -> None:
    one, other = RollCall(1, present=False), RollCall(1, present=False)
    one.answer.append(True)
    assert other.answer == []


def test_each_is_itself_however_alike_two_are() -> None:
    """They are keys of what was started."""
    for make in (Drained, lambda: RollCall(1, present=True), lambda: IntraHost(0, 0, 0, iter(()))):
        one, other = make(), make()
        assert one != other
        assert len({one, other}) == 2
        assert isinstance(one, Communication)


def test_what_is_settled_is_due_at_once_unless_somebody_says_when() -> None:
    assert Drained().due == 0.0
    assert Drained(2.5).due == 2.5
