"""Variables in shards on the virtual clock: when a read is over, and when a change may follow another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from tests.unit.values import worker

from loosestep.lowering.lowering import Lowering
from loosestep.requests import Fetch, Gradient, Push, Request, Sleep
from loosestep.transports.base import Task
from loosestep.transports.simulated import Simulated
from loosestep.transports.simulated.network import Network
from loosestep.transports.simulated.prices import Prices
from loosestep.transports.simulated.shards import Shards

SIZE = 4  # float64 values: a worker of four has one of them


def clocks(n: int, script: Callable[[int, Any], Iterator[Request]], turn: float = 0.0) -> list[float]:
    """When each worker's script is over: a second of latency, eight bytes a second, steps of two seconds."""
    on = Simulated(n, 2.0, 1.0, 8.0, center="shards", prices=Prices(turn=turn))
    session: Any = on.open(0)
    shared = session.share(0, "x", np.zeros(SIZE))

    def task(rank: int) -> Task:
        one = worker(rank, n)
        return Task(one, Lowering(session.native | {Gradient}, one).lower(script(rank, shared)), lambda request: 1)

    session.run([task(rank) for rank in range(n)])
    return list(session.clocks)


def test_a_read_asks_every_other_worker_for_its_shard() -> None:
    def script(rank: int, shared: Any) -> Iterator[Request]:
        if rank == 0:
            yield Fetch(shared, into=np.empty(SIZE))

    assert clocks(4, script)[0] == 3.0  # there and back, and one value of 8 bytes from each at once
    assert clocks(1, script)[0] == 0.0


@pytest.mark.parametrize(("turn", "until"), [(0.0, 3.0), (0.5, 3.5)])
def test_a_worker_that_computes_answers_in_its_turn(turn: float, until: float) -> None:
    def script(rank: int, shared: Any) -> Iterator[Request]:
        yield Fetch(shared, into=np.empty(SIZE)) if rank == 0 else Gradient()

    assert clocks(4, script, turn)[0] == until


def push(shared: Any, *, arrived: bool = False) -> Push:
    return Push("axpy", (shared,), (np.ones(SIZE),), (1.0,), arrived=arrived)


def test_a_change_waits_until_the_one_before_is_acknowledged() -> None:
    def script(rank: int, shared: Any) -> Iterator[Request]:
        if rank == 0:
            for _ in range(2):
                yield push(shared)

    # One value leaves at 1, the other owner's two at 3; these are there at 4, and acknowledged at 5.
    assert clocks(3, script)[0] == 5.0


def test_a_change_that_is_waited_for_is_acknowledged() -> None:
    def script(rank: int, shared: Any) -> Iterator[Request]:
        if rank == 0:
            yield push(shared, arrived=True)

    assert clocks(2, script)[0] == 4.0  # 16 bytes, and two seconds of latency


def test_all_is_idle_when_all_is_acknowledged() -> None:
    """And values have moved when the last owner was reached."""
    seen: list[float] = []

    def script(rank: int, shared: Any) -> Iterator[Request]:
        if rank == 0:
            yield push(shared)
            yield Sleep(2.9)
            seen.append(value(shared))
            yield Sleep(0.2)
            seen.append(value(shared))

    def value(shared: Any) -> float:
        into = np.empty(SIZE)
        shared.store.fetch(into)
        return float(into.sum())

    clocks(2, script)
    assert seen == [0.0, SIZE]  # at 2.9 and 3.1: 16 bytes and a second


def test_owners_are_asked_from_the_next_worker_on() -> None:
    shards = Shards(Network(4, 1.0, 8.0), lambda *_: None, lambda: 0.0, lambda _: 0.0)
    assert shards.parts(2, 8, 64.0) == [(3, 16.0), (0, 16.0), (1, 16.0)]
    assert shards.parts(0, 1, 8.0) == [(3, 8.0)], "one value has one owner"
    called: list[int] = []
    shards.when_idle(lambda: called.append(1))
    assert called == [1]
