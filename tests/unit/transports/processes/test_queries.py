"""Questions reach every process, their answers the one that asked, also where the answer is not known yet."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.nodes import nodes, turn, until
from tests.unit.values import drawn

from loosestep.transports.processes.queries import receive_json, send_json
from loosestep.transports.processes.wire import Kind


@drawn
@given(st.integers(1, 5), st.integers(0, 2**32), st.integers(0, 300))
def test_all_answer_and_each_answer_has_its_place(size: int, seed: int, length: int) -> None:
    """Short words and long ones, which come in parts; asked of oneself, too."""
    all_ = nodes(size, seed)
    for node in all_:
        node.queries.answer("name", lambda extra, rank=node.rank: [rank, extra, "x" * length])
    said: list[dict[int, Any]] = [{} for _ in all_]
    finished: list[int] = []
    for node in all_:
        node.queries.ask_all("name", node.rank, said[node.rank], lambda rank=node.rank: finished.append(rank))  # type: ignore[misc]
    until(all_, lambda: len(finished) == size)
    for asker, answers in enumerate(said):
        assert answers == {rank: [rank, asker, "x" * length] for rank in range(size)}


def test_a_question_waits_for_one_who_can_answer_it() -> None:
    one, other = nodes(2)
    heard: list[Any] = []
    one.queries.ask(1, "later", 3, heard.append)
    one.queries.ask(1, "soon", 4, heard.append)
    turn([one, other], 20)
    assert heard == []
    other.queries.answer("soon", lambda n: n + 1)
    turn([one, other], 20)
    assert heard == [5]
    other.queries.answer("later", lambda n: n * 10)
    until([one, other], lambda: len(heard) == 2)
    assert heard == [5, 30]


def test_the_last_who_says_how_to_answer_is_asked() -> None:
    one, other = nodes(2)
    heard: list[Any] = []
    for word in ("old", "new"):
        other.queries.answer("word", lambda _, word=word: word)
    one.queries.ask(1, "word", None, heard.append)
    until([one, other], lambda: bool(heard))
    assert heard == ["new"]


@pytest.mark.parametrize("value", [None, True, 3, 2.5, "é", [1, [2]], {"a": {"b": None}}])
def test_an_answer_is_what_json_holds(value: Any) -> None:
    one, other = nodes(2)
    heard: list[Any] = []
    other.queries.answer("echo", lambda given: given)
    one.queries.ask(1, "echo", value, heard.append)
    until([one, other], lambda: bool(heard))
    assert heard == [value]


def test_questions_are_no_work() -> None:
    one, other = nodes(2)
    other.queries.answer("x", lambda _: None)
    one.queries.ask(1, "x", None, lambda _: None)
    turn([one, other], 20)
    assert one.mailbox.sent == other.mailbox.sent == one.engine.received == other.engine.received == 0


@pytest.mark.parametrize("length", [1, 1000])
def test_json_is_read_when_all_of_it_is_here(length: int) -> None:
    one, other = nodes(2)
    heard: list[Any] = []
    send_json(one.mailbox.wire, 1, Kind.ASK, 7, ["x" * length])
    wire = other.mailbox.wire
    for _ in range(20):
        for source, header, content in wire.poll():
            assert header.number == 7
            receive_json(wire, source, header, content, heard.append)
    assert heard == [["x" * length]]
