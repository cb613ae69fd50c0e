"""Each message finds the receive that was posted for it, or is kept until one is: in order, for every tag."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.nodes import Node, nodes, turn, until
from tests.unit.values import drawn

from loosestep.foundation.errors import Mismatch
from loosestep.requests import Exchange
from loosestep.transports.processes.mailbox import Operation


def begin(node: Node, request: Exchange) -> Operation:
    return node.engine.begin(request, node.worker)


def send(node: Node, to: int, values: Any, tag: int = 0, note: float = 0.0) -> Operation:
    return begin(node, Exchange([(to, values)], (), note, None, tag))


def receive(node: Node, source: int, into: Any, tag: int = 0, notes: Any = None) -> Operation:
    return begin(node, Exchange((), [(source, into)], 0.0, notes, tag))


@pytest.mark.parametrize("length", [0, 1, 5, 100])
@pytest.mark.parametrize("early", [True, False])
def test_a_message_comes_whether_it_was_expected_or_not(length: int, early: bool) -> None:
    one, other = nodes(2)
    values, into, notes = np.arange(float(length)), np.full(length, np.nan), dict[int, float]()
    posted = None if early else receive(other, 0, into, 3, notes)
    sent = send(one, 1, values, 3, note=2.5)
    turn([one, other], 20)
    posted = posted or receive(other, 0, into, 3, notes)
    until([one, other], lambda: not posted.left and not sent.left)
    assert into.tolist() == values.tolist()
    assert notes == {0: 2.5}
    assert not other.mailbox.unexpected
    assert not other.mailbox.posted, "tags are used once, so nothing may stay behind"


@drawn
@given(st.integers(2, 5), st.integers(1, 25), st.integers(0, 2**32))
def test_of_one_tag_messages_keep_their_order_whatever_comes_first(size: int, count: int, seed: int) -> None:
    """Short and long ones, several tags, receives posted before and after: each comes once, in its place."""
    draw, all_ = random.Random(seed), nodes(size, seed)
    wanted: dict[Any, list[float]] = defaultdict(list)
    came: dict[Any, list[Any]] = defaultdict(list)
    open_: list[Operation] = []
    for number in range(count):
        source, to = draw.sample(range(size), 2)
        length = draw.choice([1, 30])
        tag = draw.randrange(3) + 10 * length
        key = source, to, tag
        into, values = np.full(length, np.nan), np.full(length, float(number))
        if draw.random() < 0.5:
            open_ += [receive(all_[to], source, into, tag), send(all_[source], to, values, tag)]
        else:
            open_.append(send(all_[source], to, values, tag))
            turn(all_, draw.randrange(3))
            open_.append(receive(all_[to], source, into, tag))
        wanted[key].append(float(number))
        came[key].append(into)
        turn(all_, draw.randrange(3))
    until(all_, lambda: not any(each.left for each in open_))
    for key, values in wanted.items():
        assert [set(into.tolist()) for into in came[key]] == [{value} for value in values]
    assert sum(node.mailbox.sent for node in all_) == sum(node.engine.received for node in all_) == count


def test_messages_of_another_sender_or_tag_are_no_match() -> None:
    all_ = nodes(3)
    into = np.zeros(1)
    waiting = receive(all_[2], 0, into, 7)
    send(all_[1], 2, np.ones(1), 7)
    send(all_[0], 2, np.full(1, 2.0), 8)
    turn(all_, 20)
    assert waiting.left == 1
    send(all_[0], 2, np.full(1, 3.0), 7)
    until(all_, lambda: not waiting.left)
    assert into.tolist() == [3]


def test_a_buffer_may_be_changed_only_when_its_send_is_done() -> None:
    one, other = nodes(2)
    one.net.held.add((0, 1))
    values, into = np.ones(100), np.zeros(100)
    sent, come = send(one, 1, values), receive(other, 0, into)
    turn([one, other], 20)
    assert sent.left == 1, "a long payload is still to be fetched"
    one.net.held.clear()
    until([one, other], lambda: not sent.left)
    values[:] = 5
    until([one, other], lambda: not come.left)
    assert into.tolist() == [1] * 100


def test_an_exchange_is_done_when_every_part_is() -> None:
    all_ = nodes(3)
    into = [np.zeros(1), np.zeros(100)]
    both = begin(all_[0], Exchange([(1, np.ones(100))], [(1, into[0]), (2, into[1])]))
    finished: list[int] = []
    both.then = lambda: finished.append(1)
    receive(all_[1], 0, np.zeros(100))
    send(all_[1], 0, np.ones(1))
    turn(all_, 30)
    assert both.left == 1
    assert finished == []
    send(all_[2], 0, np.full(100, 2.0))
    until(all_, lambda: not both.left)
    assert (into[0][0], into[1][0], finished) == (1, 2, [1])


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("into", [np.zeros(3), np.zeros(2, np.float32), np.zeros(200)])
def test_a_message_of_another_size_or_type_is_refused(into: Any, early: bool) -> None:
    one, other = nodes(2)
    other.worker.round = 4
    words = f"worker 0 sent 2 float64 to worker 1, which expects {into.size} {into.dtype} in round 4"
    if early:
        send(one, 1, np.ones(2))
        turn([one, other], 20)
        with pytest.raises(Mismatch, match=words):
            receive(other, 0, into)
    else:
        receive(other, 0, into)
        send(one, 1, np.ones(2))
        with pytest.raises(Mismatch, match=words):
            turn([one, other], 20)


def test_a_long_message_on_its_way_is_counted_until_it_is_whole() -> None:
    """What is said of progress: work that has come in part is still to come."""
    one, other = nodes(2)
    send(one, 1, np.ones(100))
    until([one, other], lambda: other.engine.received == 1)
    assert other.mailbox.incoming in (0, 1)
    one.net.held.add((0, 1))
    send(one, 1, np.ones(100))
    one.net.held.clear()
    while other.engine.received < 2:
        other.engine.progress()
    one.net.held.add((0, 1))
    turn([one, other], 5)
    assert other.mailbox.incoming == 1
    one.net.held.clear()
    turn([one, other], 2)
    assert other.mailbox.incoming == 0
