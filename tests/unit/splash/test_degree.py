"""The groups of a round, and the degree that they lead to."""

from __future__ import annotations

import pytest

from loosestep.splash.degree import beginning, go_on, groups, sizes


@pytest.mark.parametrize("workers", range(1, 70))
def test_sizes_use_all_workers_and_grow(workers: int) -> None:
    found = sizes(workers)
    assert sum(found) == workers
    assert found == sorted(set(found))
    assert found[:-1] == [4**place for place in range(len(found) - 1)]


def test_a_smaller_degree_takes_turns_until_what_is_left_is_done() -> None:
    state = beginning(3, 4)
    seen = []
    for _ in range(6):
        found = groups(state, 4, 0, tuned=False)
        seen.append(found)
        go_on(state, found, 0)
    assert seen == [[(0, 1, 2)], [(0, 1, 3)], [(0, 2, 3)], [(1, 2, 3)], [(0, 1, 2)], [(3,)]]
    assert (state.kept, state.rounds, state.done, state.degrees) == (16, 6, [4] * 4, [3, 3, 3, 3, 3, 1])


def test_who_was_left_out_by_a_trial_makes_up_for_it() -> None:
    state = beginning(8, 8)
    while min(state.done) < 5:
        tried = groups(state, 5, 2, tuned=True)
        go_on(state, tried, len(tried) - 1)
    assert state.done == [5] * 8
    assert state.degrees[:4] == [7, 8, 7, 8]
    assert sum(state.degrees) == state.kept == 40


def test_groups_that_try_hold_every_worker_once_and_change_from_round_to_round() -> None:
    state = beginning(16, 16)
    first, again = (groups(state, 99, 5, tuned=True) for _ in range(2))
    assert first == again
    assert sorted(rank for group in first for rank in group) == list(range(16))
    assert [len(group) for group in first] == [1, 4, 11]
    go_on(state, first, 1)
    assert groups(state, 99, 5, tuned=True) != first
    (left,) = groups(state, 1, 5, tuned=True)
    assert set(left) <= set(range(16)) - set(first[1]), "not all have something left to try with"


def test_what_wins_again_is_tried_after_twice_as_many_rounds() -> None:
    state = beginning(8, 8)
    plain, waits = [tuple(range(8))], []
    for best in (1, 1, 1, 0, 0, 1):
        tried = groups(state, 999, 0, tuned=True)
        assert len(tried) == 2
        go_on(state, tried, best)
        waits.append((state.degree, state.wait))
        while state.wait:
            found = groups(state, 999, 0, tuned=True)
            assert [len(group) for group in found] == [state.degree]
            go_on(state, found, 0)
    assert waits == [(8, 1), (8, 2), (8, 4), (1, 1), (1, 2), (8, 1)]
    assert plain[0] == groups(beginning(8, 8), 999, 0, tuned=False)[0]


def test_two_workers_are_not_divided() -> None:
    assert groups(beginning(2, 2), 99, 0, tuned=True) == [(0, 1)]
