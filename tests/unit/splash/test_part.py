"""One worker's samples: which they are, in which order, and what a round that is undone leaves of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loosestep.foundation import buffers
from loosestep.splash.degree import beginning
from loosestep.splash.part import Job, Part, batches, dealt, order
from loosestep.splash.variables import Layout, Variables

LAYOUT = Layout({"v": np.zeros(1)})


def visit(sample: Any, weight: float, shared: Variables, local: dict[str, Any]) -> None:
    local.setdefault("visits", []).append(sample)
    shared.add("v", weight)
    shared.delayed_add("v", -weight)


def part(samples: Any, rank: int = 0, size: int = 1, **options: Any) -> Part:
    return Part(
        rank, size, Job(visit, samples, LAYOUT, **options), beginning(size, size), buffers.zeros(8, np.float64)
    )


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_samples_are_dealt_in_turn(size: int) -> None:
    for rank in range(size):
        numbers, mine, keys = dealt(Job(visit, "abcdefg", LAYOUT), rank, size)
        assert numbers == keys == list(range(rank, 7, size))
        assert mine == list("abcdefg"[rank::size])


def test_groups_are_dealt_whole_in_the_order_of_their_appearance() -> None:
    words = ["bad", "add", "cat", "bat", "ant", "cow"]
    found = [dealt(Job(visit, words, LAYOUT, group=lambda word: word[0]), rank, 2) for rank in (0, 1)]
    assert found[0] == ([0, 2, 3, 5], ["bad", "cat", "bat", "cow"], ["b", "c", "b", "c"])
    assert found[1] == ([1, 4], ["add", "ant"], ["a", "a"])


def test_a_workers_own_samples_are_numbered_by_it() -> None:
    assert dealt(Job(visit, lambda rank, size: "xy" * rank, LAYOUT), 2, 3) == (
        [0, 1, 2, 3],
        list("xyxy"),
        [(2, 0), (2, 1), (2, 2), (2, 3)],
    )
    grouped = Job(visit, lambda rank, size: "xy" * rank, LAYOUT, group=lambda letter: letter)
    assert dealt(grouped, 1, 3)[2] == [(1, "x"), (1, "y")]


@pytest.mark.parametrize("rounds", [1, 2, 3, 7])
def test_a_pass_meets_every_sample_once_in_an_order_of_its_own(rounds: int) -> None:
    mine = part("abcde", rounds=rounds, seed=3)
    for pass_ in range(3):
        stretches = [mine.stretch_of(rounds * pass_ + place) for place in range(rounds)]
        assert [place for stretch in stretches for place in stretch] == order(3, 0, pass_, 5)
        assert max(map(len, stretches)) - min(map(len, stretches)) <= 1
    assert sorted(order(3, 0, 0, 50)) == list(range(50))
    assert order(3, 0, 0, 50) != order(3, 0, 1, 50) != order(3, 1, 1, 50)


def test_a_worker_that_rests_processes_nothing() -> None:
    mine = part("abc", size=2)
    mine.begin(0, 1, trial=False)
    assert len(mine) == 0
    assert mine.process(np.full(8, 2.0))[0] == 2
    assert mine.local == {}


def test_a_trial_that_is_undone_leaves_samples_as_they_were() -> None:
    mine = part("aab", group=lambda sample: sample)
    values = np.zeros(8)
    mine.begin(1, 1, trial=False)
    mine.process(values)
    mine.settle(kept=True)
    before = {key: {"visits": list(local["visits"])} for key, local in mine.local.items()}
    late = dict(mine.late)
    for kept in (False, True):
        mine.begin(2, 2, trial=True)
        mine.process(values)
        mine.settle(kept=kept)
        assert (mine.local == before) is not kept
    assert sorted(mine.late) == sorted(late) == [0, 1, 2]
    assert {len(local["visits"]) for local in mine.local.values()} == {4, 2}


def test_a_first_trial_that_is_undone_leaves_nothing() -> None:
    mine = part("ab")
    mine.begin(1, 1, trial=True)
    mine.process(np.zeros(8))
    assert (len(mine.local), len(mine.late)) == (2, 2)
    mine.settle(kept=False)
    assert (mine.local, mine.late) == ({}, {})


def test_parts_are_given_until_enough_is_kept_and_once_for_each_round_before_a_checkpoint() -> None:
    mine = part("ab")
    given = batches({0: mine}, stretches=3)(0, 1)
    for rounds in range(3):
        assert next(given) is mine
        mine.state.rounds, mine.state.kept = rounds + 1, rounds + 1
    assert next(given, None) is None
    resumed = batches({0: mine}, stretches=3)(0, 1)
    assert len(list(resumed)) == 3


def test_candidates_are_judged_by_samples_drawn_from_all_as_many_as_a_stretch_has() -> None:
    seen: list[float] = []

    def loss(sample: float, shared: Any, local: Any) -> float:
        seen.append(sample)
        return float((shared["v"][0] - sample) ** 2)

    mine = part([1.0, 2.0, 3.0, 4.0, 5.0], rounds=2, loss=loss)
    two, none, count = mine.judge([np.full(8, 2.0), np.full(8, 0.0)])
    first, second = seen[:3], seen[3:]
    assert count == 3
    assert first == second == list(dict.fromkeys(first))
    assert (two, none) == (sum((each - 2) ** 2 for each in first), sum(each**2 for each in first))
    mine.state.rounds = 1
    mine.judge([np.zeros(8)])
    assert seen[6:] != first
    assert mine.losses(np.full(8, 2.0)) == 1 + 0 + 1 + 4 + 9
