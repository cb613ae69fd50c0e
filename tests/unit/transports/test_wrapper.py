"""A session inside a session: everything reaches the inner one, and requests are rewritten from outside in."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from tests.unit.sessions import FakeSession
from tests.unit.values import worker

from loosestep.requests import Barrier, Request, Sleep
from loosestep.requests.worker import Worker
from loosestep.transports.base import Session
from loosestep.transports.wrapper import WrappedSession


class Marking(WrappedSession):
    """Puts a sleep of so many seconds before every request."""

    def __init__(self, inner: Session, seconds: float) -> None:
        super().__init__(inner)
        self.seconds = seconds

    def rewrite(self, worker: Worker, requests: Iterator[Request]) -> Iterator[Request]:
        for request in requests:
            yield Sleep(self.seconds)
            yield request


class Noting:
    """Answers every call with its name and its arguments."""

    native, unpriced, ranks, grouped, hosted, hosts = (
        frozenset({Barrier}),
        frozenset({Sleep}),
        (3,),
        False,
        False,
        ((3,),),
    )

    def __init__(self) -> None:
        self.called: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        def noted(*arguments: Any) -> Any:
            self.called.append((name, arguments))
            return self.called[-1]

        return noted


def test_everything_reaches_the_inner_session() -> None:
    """Every method of a session, found by looking: a new one that is not passed on fails here."""
    inner = Noting()
    outer: Any = Marking(inner, 1.0)  # type: ignore[arg-type]
    for name, method in inspect.getmembers(Session, inspect.isfunction):
        if name.startswith("_") or name == "wrap":
            continue
        given = [object() for _ in list(inspect.signature(method).parameters)[1:]]
        came = getattr(outer, name)(*given)
        assert inner.called.pop() == (name, tuple(given)), f"{name} is not passed on"
        assert came in [(name, tuple(given)), None], name
        assert name in vars(WrappedSession), f"{name} is not passed on"


def test_what_the_inner_session_performs_is_performed() -> None:
    outer = Marking(Noting(), 1.0)  # type: ignore[arg-type]
    for name in ("native", "unpriced", "ranks", "grouped", "hosted", "hosts"):
        assert getattr(outer, name) == getattr(Noting, name)


def test_the_inner_wrapper_sees_what_the_outer_one_made() -> None:
    session = Marking(Marking(FakeSession(), 1.0), 2.0)
    seen: list[Any] = list(session.wrap(worker(0, 1), iter([Barrier()])))
    assert [getattr(each, "seconds", "barrier") for each in seen] == [1.0, 2.0, 1.0, "barrier"]
