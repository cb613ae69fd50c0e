"""Shared variables in shards on all ranks: rules move them as one, in the order of each source, without floods."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.nodes import Node, finish, nodes, share, turn, until
from tests.unit.values import beginning, drawn

from loosestep import ops
from loosestep.requests import Elastic, Fetch, Push
from loosestep.transports.processes.shards import packed, unpacked
from loosestep.transports.processes.wire import Kind


def push(node: Node, shared: Any, values: Any, factor: float = 1.0, arrived: bool = False) -> Any:
    return node.start(Push("axpy", (shared,), (np.asarray(values, float),), (factor,), arrived))


def fetch(all_: list[Node], node: Node, shared: Any) -> tuple[list[float], float]:
    into, version = np.full(shared.size, np.nan), np.zeros(1)
    finish(all_, [node.start(Fetch(shared, into, version))])
    return into.tolist(), float(version[0])


@pytest.mark.parametrize("size", range(1, 6))
@pytest.mark.parametrize("length", [1, 3, 8, 100])
def test_every_rank_reads_all_shards(size: int, length: int) -> None:
    all_, values = nodes(size), beginning(0, length)
    shared = share(all_, "c", values)
    for node in all_:
        assert fetch(all_, node, shared) == (values.tolist(), 0)


@drawn
@given(st.integers(1, 5), st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**32))
def test_what_is_pushed_is_added_once_whatever_comes_first(size: int, length: int, count: int, seed: int) -> None:
    """Whole numbers, so that no order of the sums is another sum."""
    draw, all_ = random.Random(seed), nodes(size, seed)
    shared = share(all_, "c", np.zeros(length))
    started, total = [], np.zeros(length)
    for _ in range(count):
        values = np.array([draw.randrange(-9, 9) for _ in range(length)], float)
        started.append(push(draw.choice(all_), shared, values, arrived=draw.random() < 0.5))
        total += values
        turn(all_, draw.randrange(2))
    finish(all_, started)
    turn(all_, 60)
    assert fetch(all_, draw.choice(all_), shared) == (total.tolist(), count)


@drawn
@given(st.integers(1, 4), st.integers(1, 12), st.integers(0, 2**32))
def test_elastic_moves_conserve_the_sum(size: int, length: int, seed: int) -> None:
    """A half is exact: what a worker loses the center gains, to the bit."""
    all_ = nodes(size, seed)
    shared = share(all_, "c", np.zeros(length))
    bufs = [np.full(length, 2.0 ** (10 + node.rank)) for node in all_]
    before = sum(bufs)
    finish(all_, [node.start(Elastic(buf, shared, 0.5)) for node, buf in zip(all_, bufs, strict=True)])
    turn(all_, 60)
    after, version = fetch(all_, all_[0], shared)
    assert (sum(bufs) + np.array(after)).tolist() == before.tolist()
    assert version == size


@pytest.mark.parametrize("seed", range(5))
def test_a_fetch_sees_what_its_worker_pushed_before(seed: int) -> None:
    all_ = nodes(3, seed)
    shared = share(all_, "c", np.zeros(7))
    for step in range(1, 4):
        push(all_[1], shared, np.full(7, 1.0))
        assert fetch(all_, all_[1], shared) == ([step] * 7, step)


@pytest.mark.parametrize("name", ["momentum", "nesterov", "adam"])
def test_a_rule_of_several_variables_moves_their_shards_side_by_side(name: str) -> None:
    rule: dict[str, Any] = {
        "momentum": (2, (0.5, 0.25)), "nesterov": (2, (0.5, 0.25)), "adam": (3, (0.5, 0.9, 0.99, 1e-8))
    }  # fmt: skip
    count, scalars = rule[name]
    all_, values = nodes(3), [beginning(k + 1, 10) * (k == 0) for k in range(count)]
    shared = tuple(share(all_, f"v{k}", value) for k, value in enumerate(values))
    wanted = [value.copy() for value in values]
    for step in range(3):
        gradient = beginning(step + 7, 10)
        try:
            asked = Push(name, shared, (gradient,), scalars, arrived=True)
        except (ValueError, TypeError):
            asked = Push(name, shared, (gradient,), (*scalars, 0.0), arrived=True)
        finish(all_, [all_[step].start(asked)])
        given_ = scalars if name != "adam" else (*scalars, step + 1.0)
        getattr(ops, name)(*wanted, gradient, *given_)
    for place, each in enumerate(shared):
        assert fetch(all_, all_[0], each)[0] == wanted[place].tolist()


def test_of_one_variable_and_owner_one_change_is_on_its_way() -> None:
    """A fast worker cannot flood a slow owner: the next waits for the answer to the one before."""
    one, owner = nodes(2)
    shared, other = (share([one, owner], name, np.zeros(4)) for name in "cd")
    started = [push(one, shared, np.full(4, k + 1.0)) for k in range(10)]
    push(one, other, np.ones(4))
    kinds = [header.kind for header in one.net.on_the_way(0, 1)]
    assert kinds == [Kind.PUSH, Kind.PUSH], "one of each variable"
    assert [each.done is not None for each in started] == [True] + [False] * 9
    until([one, owner], lambda: not one.net.lines[0, 1])
    assert len(one.net.on_the_way(0, 1)) + len(one.net.on_the_way(1, 0)) <= 3
    finish([one, owner], started)
    turn([one, owner], 60)
    assert fetch([one, owner], one, shared) == ([55.0] * 4, 10)


def test_one_that_is_to_arrive_is_done_when_it_has_happened() -> None:
    one, owner = nodes(2)
    shared = share([one, owner], "c", np.zeros(4))
    one.net.held.add((1, 0))
    eager, patient = push(one, shared, np.ones(4)), push(one, shared, np.ones(4), arrived=True)
    turn([one, owner], 20)
    assert (eager.done is not None, patient.done is not None) == (True, False)
    one.net.held.clear()
    finish([one, owner], [patient])
    assert owner.shards.mine[shared.store].version == 2


def test_values_are_those_of_when_they_were_pushed() -> None:
    one, owner = nodes(2)
    shared = share([one, owner], "c", np.zeros(200))
    values = [np.ones(200), np.full(200, 2.0)]
    started = [push(one, shared, each) for each in values]
    for each in values:
        each[:] = 50
    finish([one, owner], started)
    turn([one, owner], 60)
    assert fetch([one, owner], one, shared)[0] == [3.0] * 200


def test_what_is_asked_of_a_variable_that_is_not_made_yet_waits_for_it() -> None:
    one, slow = nodes(2)
    shared = one.shards.make("c", np.zeros(4))
    into = np.full(4, np.nan)
    started = [push(one, shared, np.ones(4)), one.start(Fetch(shared, into))]
    turn([one, slow], 30)
    assert started[1].done is None
    slow.shards.make("c", np.full(4, 7.0))
    finish([one, slow], started)
    assert into.tolist() == [1, 1, 8, 8], "each rank's own half, and the push on both"


@pytest.mark.parametrize("version", [0, 9])
def test_a_variable_is_set_with_its_moves(version: int) -> None:
    all_ = nodes(3)
    shared = share(all_, "c", np.zeros(5))
    operation = all_[0].shards.begin_store(shared, np.arange(5.0), version)
    until(all_, lambda: not operation.left)
    assert [node.shards.mine[shared.store].version for node in all_] == [version] * 3
    assert fetch(all_, all_[2], shared) == ([0, 1, 2, 3, 4], version)


def test_a_version_is_the_least_of_the_shards_that_were_read() -> None:
    all_ = nodes(2)
    shared = share(all_, "c", np.zeros(4))
    for _ in range(3):
        all_[0].shards.mine[shared.store].push("axpy", [], [np.ones(2)], (1.0,))
    all_[1].shards.mine[shared.store].push("axpy", [], [np.ones(2)], (1.0,))
    assert fetch(all_, all_[0], shared) == ([3, 3, 1, 1], 1)


def test_a_variable_of_fewer_values_than_ranks_has_empty_shards() -> None:
    all_ = nodes(5)
    shared = share(all_, "c", np.array([1.0, 2.0]))
    finish(all_, [push(node, shared, [1.0, 1.0], arrived=True) for node in all_])
    assert fetch(all_, all_[4], shared) == ([6, 7], 5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [1, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_push_comes_back_from_its_bytes(dtype: Any, length: int, count: int) -> None:
    all_ = nodes(1)
    rules = {0: ("scale", (0.1,)), 1: ("axpy", (1 / 3,)), 2: None}
    if rules[count] is None:
        return
    rule, scalars = rules[count]  # type: ignore[misc]
    shared = share(all_, "c", np.zeros(length, dtype))
    values = tuple(beginning(k, length, dtype) for k in range(count))
    back = unpacked(packed(Push(rule, (shared,), values, scalars), values))
    assert back[:2] == (rule, [shared.store])
    assert [each.tobytes() for each in back[2]] == [each.tobytes() for each in values]
    assert back[3] == list(scalars)
