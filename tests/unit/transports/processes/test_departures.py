"""Who fails says so to all with its words; the first failure is the one that all name."""

from __future__ import annotations

import pytest
from tests.unit.nodes import nodes, turn, until

from loosestep.foundation.errors import PeerFailed
from loosestep.transports.processes.departures import Departures


@pytest.mark.parametrize("words", ["worker 2 failed in round 3, at Gradient(): boo", "é" * 300])
def test_a_failure_is_heard_by_all_others(words: str) -> None:
    all_ = nodes(4)
    all_[2].departures.tell_failure(words)
    until(all_, lambda: all(node.departures.failed for node in all_ if node.rank != 2))
    assert all_[2].departures.failed is None
    for node in (all_[0], all_[1], all_[3]):
        with pytest.raises(PeerFailed) as error:
            node.departures.check()
        assert error.value.rank == 2
        assert words in str(error.value)
    all_[2].departures.check()


def test_the_first_failure_stays() -> None:
    all_ = nodes(3)
    all_[1].departures.tell_failure("worker 1 failed: first")
    until(all_, lambda: all_[0].departures.failed is not None)
    all_[2].departures.tell_failure("worker 2 failed: second")
    turn(all_, 20)
    assert all_[0].departures.failed == (1, "worker 1 failed: first")


def test_all_have_left_when_each_has_said_so() -> None:
    all_ = nodes(3)
    for count, node in enumerate(all_, 1):
        node.departures.tell_left()
        turn(all_, 20)
        assert [len(each.departures.left) for each in all_] == [count] * 3
        assert [each.departures.complete for each in all_] == [count == 3] * 3


def test_one_alone_has_left_when_it_says_so() -> None:
    one = Departures(nodes(1)[0].mailbox)
    assert not one.complete
    one.tell_left()
    assert one.complete
