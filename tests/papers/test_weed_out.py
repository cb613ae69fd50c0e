"""SpeeDO's weed-out mode: which steps are merged, to the last one."""

from __future__ import annotations

import pytest
from tests.papers.staleness import counted

import loosestep as ls


def slow_first(workers: int) -> ls.Simulated:
    """Worker 0 takes three seconds a step, the others one; messages take no time, ties go in rank order."""
    slow = ls.stragglers.SlowWorker(0, 3.0)
    return ls.Simulated(workers, step_time=1.0, latency=0.0, bandwidth=float("inf"), stragglers=slow)


@pytest.mark.parametrize(("queue", "kept"), [(1, 0), (6, 0), (7, 1), (9, 1), (10, 8), (1000, 8)])
def test_a_step_is_lost_if_more_than_the_queue_came_since_its_pull(queue: int, kept: int) -> None:
    """Push of worker 0 at second 3 k: before it, 6 of the others the first time, then 9; itself is one more."""
    _, result = counted(ls.WeedOut(queue=queue), slow_first(4), 8, 24, 24, 24)
    assert result.params[0] == kept
    if queue >= 4:
        assert result.params[1:].tolist() == [24.0] * 3, "workers of one speed lose nothing"


def test_a_worker_goes_on_from_fresh_weights_whether_its_step_was_lost_or_not() -> None:
    for queue in (6, 10):
        seen, _ = counted(ls.WeedOut(queue=queue), slow_first(4), 8, 24, 24, 24)
        assert [read[1] for read in seen[0]][:3] == [0, 2, 5]


def test_by_default_the_queue_holds_two_pushes_of_every_worker() -> None:
    for workers in (2, 4):
        default, given = (
            counted(each, slow_first(workers), 24)[1] for each in (ls.WeedOut(), ls.WeedOut(queue=2 * workers))
        )
        assert (default.params == given.params).all()


def test_on_threads_nothing_is_counted_twice() -> None:
    _, result = counted(ls.WeedOut(queue=10**9), ls.Threads(4), 50)
    assert result.params.tolist() == [50.0] * 4
    _, few = counted(ls.WeedOut(queue=2), ls.Threads(4), 50)
    assert (few.params <= 50).all()
