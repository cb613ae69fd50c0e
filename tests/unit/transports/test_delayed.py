"""Communication begins late: before each one a sleep, of what was started only for what is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tests.unit.clock import Clock
from tests.unit.sessions import Fake, FakeSession
from tests.unit.values import worker

from loosestep.lowering.requests import RollCall
from loosestep.requests import AllReduce, Barrier, Gradient, Request, Sleep, Start, Wait
from loosestep.transports.delayed import Delayed


def passed(
    asked: Sequence[Request], took: Sequence[float] = (), rank: int = 0, seed: int = 0, **how: Any
) -> list[Any]:
    """What comes out; each request given takes that many seconds, a sleep as long as it says."""
    clock, times = Clock(0.0), iter(took)
    session = Delayed(Fake(FakeSession(4, rank, clock)), **how).open(seed)
    seen = []
    for request in session.wrap(worker(rank, 4), iter(asked)):
        seen.append(request)
        clock.now += request.seconds if isinstance(request, Sleep) else next(times, 0.0)
    return seen


def sleeps(seen: Sequence[Any]) -> list[float]:
    return [each.seconds for each in seen if isinstance(each, Sleep)]


def test_communication_is_late_and_computing_is_not() -> None:
    asked = [Gradient(), AllReduce(np.zeros(2)), RollCall(1, present=True), Barrier()]
    seen = passed(asked, seconds=0.5)
    assert [type(each) for each in seen] == [Gradient, Sleep, AllReduce, RollCall, Sleep, Barrier]
    assert sleeps(seen) == [0.5, 0.5]


@pytest.mark.parametrize(("computing", "left"), [(0.0, 0.5), (0.125, 0.375), (2.0, 0.0)])
def test_what_was_started_is_late_only_for_what_is_left(computing: float, left: float) -> None:
    reduction = AllReduce(np.zeros(2))
    seen = passed([Start(reduction), Gradient(), Wait(reduction)], [0.0, computing], seconds=0.5)
    assert [type(each) for each in seen] == [Start, Gradient, Sleep, Wait]
    assert sleeps(seen) == [left]


def test_others_are_not_delayed() -> None:
    assert sleeps(passed([Barrier()], rank=1, ranks=(0, 2), seconds=1.0)) == []
    assert sleeps(passed([Barrier()], rank=2, ranks=(0, 2), seconds=1.0)) == [1.0]


def test_nothing_is_late_while_unmetered() -> None:
    clock = Clock(0.0)
    one = worker(0, 4)
    one.unmetered = True
    session = Delayed(Fake(FakeSession(4, 0, clock)), seconds=1.0).open()
    assert [type(each) for each in session.wrap(one, iter([Barrier()]))] == [Barrier]


def test_random_delays_are_uniform_with_that_mean_and_the_same_again() -> None:
    how: dict[str, Any] = {"seconds": 0.5, "pattern": "random"}
    asked = [Barrier()] * 400
    first = sleeps(passed(asked, seed=3, **how))
    assert first == sleeps(passed(asked, seed=3, **how))
    assert first != sleeps(passed(asked, seed=4, **how))
    assert first != sleeps(passed(asked, seed=3, rank=1, **how))
    assert 0 <= min(first) < 0.05
    assert 0.95 < max(first) <= 1.0
    assert np.mean(first) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"seconds": -1.0}, "seconds must be at least 0"),
        ({"pattern": "often"}, "pattern must be one of 'constant', 'random'"),
        ({"ranks": (4,)}, "ranks must be below 4, the number of workers, got 4"),
    ],
)
def test_bad_delays_are_refused(how: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Delayed(Fake(FakeSession(4)), **how)
