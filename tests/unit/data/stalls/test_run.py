"""Blocks of batches: what a batch takes is a median that pauses and bursts do not shift."""

from __future__ import annotations

import pytest

from loosestep.data.stalls.run import Blocks, Run


def run(times: list[float], workers: int = 1) -> Run:
    blocks = Blocks(len(times), workers)
    for number, seconds in enumerate(times):
        blocks.add(number, seconds, 0.0)
    found = blocks.run()
    assert found is not None
    return found


def test_a_pause_of_the_machine_counts_in_the_sum_alone() -> None:
    found = run([0.1] * 20 + [5.0] + [0.1] * 29)
    assert found.each == pytest.approx(0.1)
    assert found.seconds == pytest.approx(9.9)
    assert found.count == 50


@pytest.mark.parametrize("workers", [2, 3, 8])
@pytest.mark.parametrize("count", [24, 48, 50])
def test_bursts_of_workers_are_averaged(workers: int, count: int) -> None:
    """Each worker delivers a batch, all at once, then nothing for a while."""
    times = [0.3 * workers if number % workers == 0 else 0.0 for number in range(count)]
    assert run(times, workers).each == pytest.approx(0.3, rel=0.01)


@pytest.mark.parametrize("count", [1, 2, 9, 10, 11, 19, 50])
def test_each_block_has_one_end_and_all_batches_are_in_one(count: int) -> None:
    blocks = Blocks(count, 3)
    ends = [number for number in range(count) if blocks.is_end(number)]
    assert ends[-1] == count - 1
    assert len(ends) == len({blocks.block(number) for number in range(count)})
    assert run([2.0] * count, 3).each == 2.0


def test_without_blocks_it_is_the_mean() -> None:
    assert Run(4, 2.0).each == 0.5
    assert Blocks(3, 1).run() is None
