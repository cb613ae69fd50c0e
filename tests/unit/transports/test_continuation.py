"""A stream of requests that stops and goes on: whose it is, and what it starts with."""

from __future__ import annotations

import pytest
from tests.unit.values import worker

from loosestep.requests import Barrier, Gradient
from loosestep.transports.continuation import Continuation


def test_it_begins_with_nothing_done() -> None:
    one = Continuation(worker(2, 3), 2, iter([Barrier()]))
    assert (one.rank, one.beside) == (2, False)
    assert one.waiting is one.done is one.error is one.then is None


def test_a_stream_of_communications_computes_nothing() -> None:
    one = Continuation(worker(0, 1), 0, iter([]), beside=True)
    with pytest.raises(TypeError, match=r"^Gradient\(\) computes, which nothing does here$"):
        one.compute(Gradient())


def test_each_is_itself_however_alike_two_are() -> None:
    me = worker(0, 1)
    one, other = Continuation(me, 0, iter([])), Continuation(me, 0, iter([]))
    assert len({one, other}) == 2
