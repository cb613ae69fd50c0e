"""The formulas of the studies of grids, data stalls and SSFN."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import loosestep as ls

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")
from bench.papers.studies import grid, ssfn, stalls


def random_batches(row: int, rows: int) -> Any:
    random = np.random.default_rng(3)
    for _ in range(2):
        images, classes = random.normal(size=(8, 1, grid.SIDE, grid.SIDE)), random.integers(10, size=8)
        yield images[row::rows], classes[row::rows]


@pytest.mark.parametrize(("parts", "workers"), [(2, 4), (4, 4)])
def test_any_grid_trains_the_same_network(parts: int, workers: int) -> None:
    def trained(parts: int, workers: int) -> Any:
        gradient, start = partial(grid.gradient, parts=parts), grid.split(grid.start(0), parts)
        return ls.run_split(gradient, start, random_batches, on=ls.Simulated(workers))

    found, alone = trained(parts, workers), trained(1, 1)
    assert found.losses == pytest.approx(alone.losses, rel=1e-12)
    for one, other in zip(grid.joined(list(found.parts)), grid.joined(list(alone.parts)), strict=True):
        assert np.abs(one - other).max() < 1e-12


def test_the_gradient_is_the_slope_of_the_loss() -> None:
    """Along the gradient a small step lowers the loss by its squared length."""
    (batch, *_), flat = list(random_batches(0, 1)), grid.split(grid.start(0), 1)[0]

    def told(x: Any) -> Any:
        running = grid.gradient(x, batch, 0, 1)
        given = next(running)
        while True:
            try:
                given = running.send([given])
            except StopIteration as end:
                return end.value

    loss, slope = told(flat)
    step = 1e-5
    fallen = (loss - told(flat - step * slope)[0]) / step
    assert fallen == pytest.approx(slope @ slope, rel=1e-2)


def test_a_loader_ahead_hides_the_shorter_of_loading_and_computing() -> None:
    loads, steps = np.full(10, 1.0), np.full(10, 3.0)
    assert stalls.alone(loads, steps)[-1] == 1 + 30
    assert stalls.alone(steps, loads)[-1] == 30 + 1


def test_jobs_together_wait_for_the_slowest_and_for_slots() -> None:
    loads, steps = np.full(40, 2.0), np.array([np.full(40, 1.0), np.full(40, 4.0)])
    ends = stalls.shared(loads, steps)
    assert ends[1, -1] == 2 + 40 * 4
    taken = 2 + 4 * (39 - stalls.SLOTS)  # by the slow job, the batch before in that slot
    assert ends[0, -1] == taken + 2 + 1
    slow = stalls.shared(10 * loads, steps)
    assert slow[1, -1] == 20 * 20 + 2 * 4, "two jobs prepare twenty batches each, the last two at once"


def test_the_least_recently_used_row_goes() -> None:
    rows: Any = "abc"
    cache: Any = stalls.LRU(rows, 2)
    assert "".join(cache[number] for number in (0, 1, 0, 2, 0, 1)) == "abacab"
    assert cache.hits == 2
    assert list(cache.kept) == [0, 1]


def test_rows_by_label_are_all_dealt_and_few_labels_to_a_worker() -> None:
    model, labels = ssfn.Counted(0, 4), np.arange(40) % 4
    order = np.random.default_rng(0).permutation(40)
    for by_label, kinds in ((True, 1), (False, 4)):
        model.by_label = by_label
        dealt = model._dealt(order, labels, 4)
        assert sorted(np.concatenate(dealt)) == list(range(40))
        assert max(len(set(labels[mine])) for mine in dealt) == kinds
