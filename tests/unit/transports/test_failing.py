"""A worker that fails at each point of its stream."""

from __future__ import annotations

import pytest
from tests.unit.sessions import Fake, FakeSession
from tests.unit.values import worker

from loosestep.requests import Barrier, Gradient, Request
from loosestep.transports.failing import Failing, InjectedFailure

ASKED: list[Request] = [Gradient(), Barrier(), Gradient(), Barrier()]


@pytest.mark.parametrize("at", range(1, 5))
def test_it_fails_at_that_request_and_names_it(at: int) -> None:
    session = Failing(Fake(FakeSession(2, 1)), rank=1, at_request=at).open()
    seen = []
    with pytest.raises(InjectedFailure, match=rf"^as asked, at request {at}, {type(ASKED[at - 1]).__name__}\(\)$"):
        seen.extend(session.wrap(worker(1, 2), iter(ASKED)))
    stream = session.wrap(worker(1, 2), iter(ASKED))
    assert [next(stream) for _ in range(at - 1)] == ASKED[: at - 1], "what came before was performed"


def test_others_do_not_fail_nor_does_a_stream_that_is_shorter() -> None:
    session = Failing(Fake(FakeSession(2)), rank=1, at_request=1).open()
    assert list(session.wrap(worker(0, 2), iter(ASKED))) == ASKED
    later = Failing(Fake(FakeSession(2)), rank=0, at_request=5).open()
    assert list(later.wrap(worker(0, 2), iter(ASKED))) == ASKED


def test_a_rank_or_request_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="rank must be below 2, the number of workers, got 2"):
        Failing(Fake(FakeSession(2)), rank=2)
    with pytest.raises(ValueError, match="at_request must be at least 1, got 0"):
        Failing(Fake(FakeSession(2)), at_request=0)
