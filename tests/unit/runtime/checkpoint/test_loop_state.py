"""A worker's state in a user's loop: saved between steps, and restored in a loop that goes on alike."""

from __future__ import annotations

import json
from copy import deepcopy

import numpy as np
import pytest
from tests.unit.runtime.test_user_loop import Users
from tests.unit.sessions import FakeSession

import loosestep as ls
from loosestep.foundation.errors import CheckpointError
from loosestep.runtime.checkpoint import loop_state

STRATEGIES: list[ls.Strategy] = [
    ls.LocalSGD(3),
    ls.EASGD(3),
    ls.CoCoDSGD(3),
    ls.Downpour(3),
    ls.AllReduceSGD(),
    ls.PartiallySynchronous(3),
    ls.AdaptiveLocalSGD(2, 1),
    ls.Stages((ls.AllReduceSGD(), 1), (ls.CoCoDSGD(3), None)),
]


def users(strategy: ls.Strategy, size: int = 2, rank: int = 0) -> Users:
    return Users(strategy, session=FakeSession(size, rank), steps_per_epoch=3)


def test_a_state_says_whose_it_is_and_where_it_stands() -> None:
    one = users(ls.LocalSGD(3))
    for _ in range(4):
        one.step()
    state = loop_state.saved(one.loop)
    assert (state["strategy"], state["rank"], state["size"]) == ("LocalSGD(period=3)", 0, 2)
    assert {name: state["position"][name] for name in ("clock", "updates", "round", "progress", "inside")} == {
        "clock": 4,
        "updates": 4,
        "round": 2,
        "progress": 1,
        "inside": True,
    }
    assert state["totals"]["samples"] == 4
    assert state["totals"]["steps"] == 4


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
@pytest.mark.parametrize("steps", [0, 3, 6])
def test_a_loop_goes_on_as_the_other_does(strategy: ls.Strategy, steps: int) -> None:
    one, other = users(strategy), users(strategy)
    for _ in range(steps):
        one.step()
    state = loop_state.saved(one.loop)
    facts = json.loads(json.dumps({name: each for name, each in state.items() if name != "tensors"}))
    other.worker.params[:] = one.worker.params
    loop_state.restored(other.loop, {**facts, "tensors": deepcopy(state["tensors"])})
    assert other.loop.position() == one.loop.position() == state["position"]
    assert (other.loop.model.samples, other.loop.model.steps) == (steps, steps)  # type: ignore[attr-defined]
    for each in (one, other):
        for _ in range(4):
            each.step()
    assert other.worker.clock == steps + 4
    assert other.worker.params.tobytes() == one.worker.params.tobytes()
    after, expected = loop_state.saved(other.loop), loop_state.saved(one.loop)
    assert after["numbers"] == expected["numbers"]
    assert {name: each.tobytes() for name, each in after["tensors"].items()} == {
        name: each.tobytes() for name, each in expected["tensors"].items()
    }


@pytest.mark.parametrize("strategy", [ls.CoCoDSGD(3), ls.Downpour(3)], ids=repr)
def test_a_state_does_not_change_with_the_loop_it_was_taken_from(strategy: ls.Strategy) -> None:
    one = users(strategy)
    for _ in range(3):
        one.step()
    state = loop_state.saved(one.loop)
    assert state["tensors"]
    before = deepcopy(state)
    for _ in range(6):
        one.step()
    assert loop_state.saved(one.loop)["position"] != before["position"]
    assert state["position"] == before["position"]
    assert state["numbers"] == before["numbers"]
    assert all(np.array_equal(values, before["tensors"][name]) for name, values in state["tensors"].items())


def test_a_list_in_a_state_is_copied_both_ways() -> None:
    one, other = users(ls.CoCoDSGD(3)), users(ls.CoCoDSGD(3))
    for each in (one, other):
        each.loop.program.state.seen = [1.0]
    state = loop_state.saved(one.loop)
    one.loop.program.state.seen.append(2.0)
    loop_state.restored(other.loop, state)
    other.loop.program.state.seen.append(3.0)
    assert state["numbers"]["state.seen"] == [1.0]
    loop_state.restored(one.loop, state)
    assert one.loop.program.state.seen == [1.0]


def test_a_number_of_the_state_is_put_back() -> None:
    one, other = users(ls.AdaptiveLocalSGD(2, 1)), users(ls.AdaptiveLocalSGD(2, 1))
    one.loop.program.state.period = 7
    loop_state.restored(other.loop, loop_state.saved(one.loop))
    assert other.loop.program.state.period == 7


def test_what_was_in_flight_is_complete() -> None:
    one = users(ls.CoCoDSGD(3))
    for _ in range(3):
        one.step()
    begun = one.performed.count("Start")
    assert begun > one.performed.count("Wait")
    loop_state.saved(one.loop)
    assert one.performed.count("Wait") == begun


def test_a_shared_variable_is_in_the_part_of_rank_0() -> None:
    first, second = users(ls.Downpour(3)), users(ls.Downpour(3), rank=1)
    for each in (first, second):
        for _ in range(3):
            each.step()
    assert len(loop_state.saved(first.loop)["tensors"]) == len(loop_state.saved(second.loop)["tensors"]) + 1
    first.loop.leave(None)
    with pytest.raises(RuntimeError, match=r"and '.+' with it: call state_dict\(\) inside `with optimizer:`"):
        loop_state.saved(first.loop)


@pytest.mark.parametrize(
    ("mine", "message"),
    [
        (
            users(ls.LocalSGD(4)),
            r"is of strategy LocalSGD\(period=3\), and this worker's strategy is LocalSGD\(period=4\)$",
        ),
        (users(ls.LocalSGD(3), rank=1), "is of rank 0, and this worker's rank is 1: every worker saves and loads"),
        (users(ls.LocalSGD(3), size=3), r"is of size 2, and this worker's size is 3: .* or use save\(folder\)$"),
    ],
    ids=["strategy", "rank", "size"],
)
def test_a_state_of_another_is_refused_and_nothing_is_changed(mine: Users, message: str) -> None:
    one = users(ls.LocalSGD(3))
    one.step()
    before = mine.loop.position()
    with pytest.raises(CheckpointError, match=message):
        loop_state.restored(mine.loop, loop_state.saved(one.loop))
    assert mine.loop.position() == before


def test_where_all_are_alike_one_state_is_that_of_all() -> None:
    one, other = users(ls.AllReduceSGD()), users(ls.AllReduceSGD(), size=3, rank=2)
    one.step()
    loop_state.restored(other.loop, loop_state.saved(one.loop))
    assert other.worker.clock == 1


def test_a_buffer_that_is_missing_is_named() -> None:
    one = users(ls.CoCoDSGD(3))
    state = loop_state.saved(one.loop)
    name = next(iter(state["tensors"]))
    with pytest.raises(CheckpointError, match=f"the state dict: {name} is missing, wanted 2 float64"):
        loop_state.restored(one.loop, {**state, "tensors": {}})


def test_inside_a_step_there_is_no_state() -> None:
    one = users(ls.AllReduceSGD())
    one.loop.perform_early(lambda request: True)
    with pytest.raises(RuntimeError, match=r"state_dict\(\) belongs between steps"):
        loop_state.saved(one.loop)
