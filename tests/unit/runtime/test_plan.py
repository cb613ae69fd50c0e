"""Where all workers stop: at a step that none of them has passed, whatever was begun unseen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.values import drawn, worker

import loosestep as ls
from loosestep.runtime.plan import Plan


def member(next_step: int, ended: bool = False, stays: bool = False, size: int = 1) -> Any:
    return SimpleNamespace(next_step=next_step, ended=ended, stays=stays, worker=worker(0, size))


def plan(*members: Any) -> Plan[Any]:
    made: Plan[Any] = Plan(ls.LocalSGD(2))
    made.programs.extend(members)
    made.begin_halt = lambda: made.decide(made.prepare())
    return made


def test_a_plan_of_a_strategy_alone_does_nothing_else() -> None:
    made = plan(member(1))
    assert (made.steps, made.every, made.checkpoint_every, made.ends) == (None, None, None, (None,))
    assert made.evaluate(None, 3) is False
    assert list(made.save(None, 3)) == list(made.commit(None, 3, False)) == []
    assert not made.halts(10**9)


@drawn
@given(st.lists(st.tuples(st.integers(0, 50), st.booleans(), st.booleans()), min_size=1, max_size=6))
def test_a_halt_is_at_a_step_that_nobody_has_passed(workers: list[tuple[int, bool, bool]]) -> None:
    members = [member(*each) for each in workers]
    made = plan(*members)
    made.halt()
    running = [each.next_step for each in members if each.stays or not each.ended]
    assert made.halt_at == max(running, default=0)
    assert all(not made.halts(step - 1) for step in running if step == made.halt_at)
    assert made.halts(made.halt_at or 0)


def test_it_is_asked_for_once_and_decided_once() -> None:
    made, asked = plan(member(3)), []
    made.begin_halt = lambda: asked.append(made.prepare())
    made.halt()
    made.halt()
    assert asked == [3]
    made.decide(5)
    made.decide(9)
    assert made.halt_at == 5


@pytest.mark.parametrize("decided", [4, 8])
def test_who_looks_while_it_is_being_decided_waits(decided: int) -> None:
    made = plan(member(3))
    made.begin_halt = made.prepare  # type: ignore[assignment]
    waited = []

    def wait(known: Any) -> None:
        waited.append(known())
        made.decide(decided)

    made.await_halt = wait
    made.halt()
    assert made.halts(5) == (decided == 4)
    assert waited == [False]
    made.halts(6)
    assert waited == [False], "it is known by now"


def test_workers_live_apart_where_some_are_elsewhere() -> None:
    assert not plan(member(0)).apart
    assert plan(member(0, size=2)).apart
    assert not plan(member(0, size=2), member(0, size=2)).apart
