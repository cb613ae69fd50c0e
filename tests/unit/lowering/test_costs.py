"""What each request is said to send. That collectives send it is seen where they are played."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.unit.values import workers

from loosestep.lowering import collectives
from loosestep.lowering.costs import cost_of
from loosestep.lowering.requests import Script
from loosestep.requests import (
    AllGather,
    AllReduce,
    Barrier,
    Broadcast,
    Elastic,
    Exchange,
    Gradient,
    Push,
    Shared,
    Start,
)

SOME: list[Any] = [
    AllReduce(np.zeros(10, np.float32), "max"),
    AllGather(np.zeros(5), np.zeros(25)),
    Broadcast(np.zeros(7), 3),
    Barrier(),
]


@pytest.mark.parametrize("request_", SOME, ids=str)
@pytest.mark.parametrize("rank", range(5))
def test_a_collective_costs_what_its_form_sends(request_: Any, rank: int) -> None:
    sent = []
    for exchange in collectives.FORMS[type(request_)](request_, workers(5)[rank], 0):
        if exchange.notes is not None:
            exchange.notes.update((source, 1.0) for source, _ in exchange.recvs)
        sent += [buf.nbytes for _, buf in exchange.sends]
    assert cost_of(request_, rank, 5) == (sum(sent), len(sent))


def test_what_computes_sends_nothing() -> None:
    assert cost_of(Gradient(), 0, 4) == (0, 0)


def test_what_is_not_lowered_costs_what_it_says() -> None:
    buf = np.zeros(8)
    shared = Shared("c", 8, buf.dtype, None)
    push = Push("axpy", (shared,), (buf,), (1.0,))
    reduction = AllReduce(buf)
    assert cost_of(push, 0, 4) == (64, 1)
    assert cost_of(Elastic(buf, shared, 0.5), 0, 4) == (64, 1)
    assert cost_of(Exchange(((1, buf), (2, buf[:2])), ()), 0, 4) == (80, 2)
    assert cost_of(Start(reduction), 0, 4) == cost_of(reduction, 0, 4) == (96, 6)
    assert cost_of(Script(reduction, iter(())), 0, 4) == (96, 6)
    assert cost_of(Script(reduction, iter(()), (5, 1)), 0, 4) == (5, 1)
    assert cost_of(Barrier(), 0, 1) == (0, 0)
