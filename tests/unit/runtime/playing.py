"""Plays the stream of one worker's program, without a transport: the others are who the test says they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tests.unit.sessions import FakeSession

import loosestep as ls
from loosestep.lowering.requests import RollCall
from loosestep.requests import AllReduce, Compute, Request
from loosestep.requests.worker import Worker
from loosestep.runtime.numpy_model import Feed, NumpyModel
from loosestep.runtime.plan import Plan
from loosestep.runtime.program import Program


def program(strategy: ls.Strategy, batches: int = 10, rank: int = 0, size: int = 1, **plan: Any) -> Program:
    """A worker whose gradient is 1, so that its parameters count its steps down."""
    made: Plan[Program] = Plan(strategy, **plan)
    session = FakeSession(size, rank)
    one = Worker(rank, size, np.zeros(2), lambda name, like: session.share(rank, name, like))
    feed = Feed(lambda rank, size: iter([np.ones(1)] * batches), rank, size)
    model = NumpyModel(one, lambda x, batch: np.ones_like(x), feed, ls.SGD(1.0))
    made.begin_halt = lambda: made.decide(made.prepare())
    made.await_halt = lambda decided: None
    made.programs.append(Program(made, one, model))
    return made.programs[0]


@dataclass
class Played:
    """What came, in words; a request that is not metered in brackets."""

    words: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def count(self, word: str) -> int:
        return self.words.count(word)


def play(
    one: Program,
    reduce: Callable[[AllReduce], None] = lambda request: None,
    present: Callable[[int], bool] = lambda round_: False,
    before: Callable[[Request, int], None] = lambda request, place: None,
) -> Played:
    """To the end. reduce: what others do to a buffer; present: whether another has data for a round."""
    seen, handlers = Played(), FakeSession().endpoint.handlers
    stream: Iterator[Any] = one.script()
    for request in stream:
        before(request, len(seen.words))
        name = type(request).__name__
        seen.words.append(f"({name})" if one.worker.unmetered else name)
        seen.requests.append(request)
        if isinstance(request, Compute):
            one.model.handlers[type(request)](request)
        elif isinstance(request, RollCall):
            request.answer.append(request.present or present(request.round))
        elif isinstance(request, AllReduce):
            reduce(request)
        elif type(request) in handlers:
            handlers[type(request)](request)
    return seen
