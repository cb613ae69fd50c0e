"""Collectives and centers in memory that all workers of a host map."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from tests.unit.hosts import HostCalls
from tests.unit.values import beginnings, bits, reduced

from loosestep.foundation.errors import Mismatch
from loosestep.requests import AllGather, AllReduce, Barrier, Broadcast, Elastic, Fetch, Push, Wait
from loosestep.transports.processes import host_memory
from loosestep.transports.processes.host_memory import HostCenter, HostMemory

GROUP = (0, 1)


@pytest.fixture(autouse=True)
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_memory, "SLICE", 0.0)


def memories() -> list[HostMemory]:
    def make(calls: HostCalls) -> HostMemory:
        one = HostMemory(GROUP)
        one.open(calls)  # type: ignore[arg-type]
        return one

    return on_one_host_twice(make)


def on_one_host_twice(make: Any) -> list[Any]:
    """The first maps two things, one after the other, and so does the second, which is made again for it."""
    known: dict[str, Any] = {}
    calls = [HostCalls(rank, 2, known) for rank in GROUP]
    came: list[Any] = [None, None]
    meet = threading.Barrier(2, timeout=20)
    for each in calls:
        each.meanwhile = meet.wait  # type: ignore[assignment]
        each.all_gather_object = lambda name, mine, each=each: gathered(name, mine, each, known, meet)  # type: ignore[method-assign, misc]

    def act(rank: int) -> None:
        came[rank] = make(calls[rank])

    threads = [threading.Thread(target=act, args=(rank,)) for rank in GROUP]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    for each in calls:
        each.meanwhile = lambda: None
    return came


def gathered(name: str, mine: Any, each: HostCalls, known: dict[str, Any], meet: Any) -> Any:
    if each.rank == 0:
        known[name] = mine()
    meet.wait()
    return lambda: [known[name]] * 2


def play(made: list[HostMemory], asked: list[Any]) -> None:
    """A collective of both: the first goes on whenever the second waits."""
    waits = [one.background[type(request)](request) for one, request in zip(made, asked, strict=True)]
    for wait, request in zip(waits, asked, strict=True):
        wait(Wait(request))


@pytest.mark.parametrize("op", ["sum", "mean", "max"])
def test_started_collectives_have_the_bits_of_a_fold(op: Any) -> None:
    made, bufs = memories(), beginnings(2, 50)
    wanted = reduced(op, bufs)
    play(made, [AllReduce(buf, op) for buf in bufs])
    assert bits(bufs) == bits([wanted] * 2)
    pieces, outs = beginnings(2, 3), [np.empty(6), np.empty(6)]
    play(made, [AllGather(piece, out) for piece, out in zip(pieces, outs, strict=True)])
    assert bits(outs) == bits([np.concatenate(pieces)] * 2)
    roots = beginnings(2)
    copied = roots[1].copy()
    play(made, [Broadcast(buf, 1) for buf in roots])
    assert bits(roots) == bits([copied] * 2)
    for one in made:
        one.memories.close()


def test_a_blocking_collective_is_repeated_until_the_others_have_come() -> None:
    made = memories()
    bufs = beginnings(2)
    wanted = reduced("sum", bufs)
    came: list[int] = []

    def other() -> None:
        if not came:
            came.append(1)
            assert made[1].blocking[AllReduce](AllReduce(bufs[1], "sum")) in ("done", "waiting")
        else:
            made[1].blocking[AllReduce](AllReduce(bufs[1], "sum"))

    made[0].calls.meanwhile = other  # type: ignore[attr-defined]
    made[0].handlers[AllReduce](AllReduce(bufs[0], "sum"))
    assert bufs[0].tobytes() == wanted.tobytes()  # type: ignore[union-attr]
    assert (made[0].calls.waits, made[0].calls.waiting) == (1, ""), "the others are told for what it waits"
    assert set(made[0].handlers) == set(made[0].background) == {AllReduce, AllGather, Broadcast, Barrier}


def test_what_does_not_fit_is_refused_with_the_round() -> None:
    made = memories()
    waits = [one.background[AllReduce](AllReduce(np.ones(2 + place))) for place, one in enumerate(made)]
    for wait in waits:
        with pytest.raises(Mismatch, match="in round 0$"):
            wait(Wait(Barrier()))


def centers() -> list[HostCenter]:
    def make(calls: HostCalls) -> HostCenter:
        one = HostCenter(GROUP)
        one.open(calls)  # type: ignore[arg-type]
        one.shared = one.share("c", np.full(3, float(calls.rank + 1)))  # type: ignore[attr-defined]
        one.common = one.in_common("x", np.full(2, float(calls.rank + 5)))  # type: ignore[attr-defined]
        return one

    return on_one_host_twice(make)


def test_a_center_is_one_for_all_with_rank_0s_values() -> None:
    made: list[Any] = centers()
    into, buf = np.empty(3), np.full(3, 5.0)
    made[1].handlers[Fetch](Fetch(made[1].shared, into))
    assert into.tolist() == [1, 1, 1]
    made[0].handlers[Push](Push("axpy", (made[0].shared,), (np.ones(3),), (2.0,)))
    made[1].handlers[Elastic](Elastic(buf, made[1].shared, 0.5))
    made[0].handlers[Fetch](Fetch(made[0].shared, into))
    assert (into.tolist(), buf.tolist()) == ([4, 4, 4], [4, 4, 4])
    assert [one.version(one.shared) for one in made] == [2, 2]
    made[0].store(made[0].shared, np.zeros(3), 9)
    assert made[1].version(made[1].shared) == 9


def test_what_is_started_is_done_at_once() -> None:
    made: list[Any] = centers()
    into = np.empty(3)
    wait = made[0].background[Fetch](Fetch(made[0].shared, into))
    assert into.tolist() == [1, 1, 1]
    wait(Wait(Barrier()))


def test_a_common_buffer_is_ones_own_when_the_run_is_over() -> None:
    made: list[Any] = centers()
    assert [one.common.tolist() for one in made] == [[5, 5]] * 2
    made[0].common[0] = 8
    assert made[1].common.tolist() == [8, 5]
    for one in made:
        one.close()
    made[0].common[1] = 9
    assert [one.common.tolist() for one in made] == [[8, 9], [8, 5]]
