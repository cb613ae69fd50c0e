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
    state = beginning(3)
    seen = []
    for left in (9, 6, 3, 2):
        found = groups(state, 4, left, 0, tuned=False)
        seen.append(found)
        go_on(state, found, 0, 0, 4)
    assert seen == [[(0, 1, 2)], [(0, 1, 3)], [(0, 2, 3)], [(1, 2)]]
    assert (state.kept, state.rounds, state.done, state.degrees) == (11, 4, 3, [3, 3, 3, 2])


def test_groups_that_try_hold_every_worker_once_and_change_from_round_to_round() -> None:
    state = beginning(16)
    first, again = (groups(state, 16, 99, 5, tuned=True) for _ in range(2))
    assert first == again
    assert sorted(rank for group in first for rank in group) == list(range(16))
    assert [len(group) for group in first] == [1, 4, 11]
    go_on(state, first, 1, 0, 16)
    assert groups(state, 16, 99, 5, tuned=True) != first
    assert [len(group) for group in groups(state, 16, 4, 5, tuned=True)] == [4], "too little is left to try"


def test_what_wins_again_is_tried_after_twice_as_many_rounds() -> None:
    state = beginning(8)
    plain, waits = [tuple(range(8))], []
    for best in (1, 1, 1, 0, 0, 1):
        tried = groups(state, 8, 999, 0, tuned=True)
        assert len(tried) == 2
        go_on(state, tried, best, 0, 8)
        waits.append((state.degree, state.wait))
        while state.wait:
            found = groups(state, 8, 999, 0, tuned=True)
            assert [len(group) for group in found] == [state.degree]
            go_on(state, found, 0, 0, 8)
    assert waits == [(8, 1), (8, 2), (8, 4), (1, 1), (1, 2), (8, 1)]
    assert plain[0] == groups(beginning(8), 8, 999, 0, tuned=False)[0]


def test_two_workers_are_not_divided() -> None:
    assert groups(beginning(2), 2, 99, 0, tuned=True) == [(0, 1)]
