"""One worker of a grid, whose requests a test answers: what it asks for, of whom, and what it makes of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.unit.values import no_variable

import loosestep as ls
from loosestep.lowering.requests import RollCall
from loosestep.requests import AllGather, AllReduce, Broadcast, Gradient, Request, Update
from loosestep.runtime.grid_worker import GridWorker, Job

PARTS = [np.zeros(2), np.zeros(3)]


def gradient(x: Any, batch: Any, column: int) -> Any:
    """Exchange the batch, then a hundred of what came of it; the gradient is the sum of both exchanges."""
    first = yield batch
    second = yield 100.0 * (first[0] + first[1])[:1]
    return float(batch[0]), np.full_like(x, second[0].sum() + second[1].sum())


def made(rank: int, *batches: Any, steps: int | None = None) -> GridWorker:
    job = Job(gradient, PARTS, lambda row, rows: iter(batches), ls.SGD(1.0), steps, 0)
    return GridWorker(rank, 6, job, SimpleNamespace(bytes=0), no_variable, lambda: 7.5)


def answered(worker: GridWorker, present: bool = False) -> list[Request]:
    """Play the others of the grid, who all give what this worker gives; return what it asked for."""
    asked: list[Request] = []
    for request in worker.script():
        asked.append(request)
        if isinstance(request, RollCall):
            request.answer.append(request.present or present)
        elif isinstance(request, (Gradient, Update)):
            worker.compute(request)
        elif isinstance(request, AllGather):
            worker.meter.bytes += request.piece.nbytes  # type: ignore[misc]
            request.out[:] = np.tile(request.piece, request.out.size // request.piece.size)
        elif isinstance(request, AllReduce):
            worker.meter.bytes += 1000  # type: ignore[misc]
    return asked


@pytest.mark.parametrize(
    ("rank", "row", "column", "in_row", "in_column"),
    [(0, 0, 0, (0, 1), (0, 2, 4)), (3, 1, 1, (2, 3), (1, 3, 5)), (4, 2, 0, (4, 5), (0, 2, 4))],
)
def test_ranks_are_dealt_row_by_row(
    rank: int, row: int, column: int, in_row: tuple[int, ...], in_column: tuple[int, ...]
) -> None:
    worker = made(rank, np.ones(2))
    assert (worker.row, worker.column, worker.rows) == (row, column, 3)
    asked = answered(worker)
    assert [each.group for each in asked if isinstance(each, AllGather)] == [in_row, in_row, None]
    assert [each.group for each in asked if isinstance(each, AllReduce)] == [in_column, tuple(range(6))]
    assert worker.worker.params.size == PARTS[column].size


def test_a_step_computes_between_exchanges_and_averages_over_its_column() -> None:
    worker = made(3, np.ones(4), np.full(2, 2.0))
    kinds = [type(each) for each in answered(worker)]
    one = [RollCall, Gradient, AllGather, Gradient, AllGather, Gradient, AllReduce, Update]
    end = [RollCall, Broadcast, Broadcast, AllReduce, AllGather]
    assert kinds == [*one, *one, *end]
    assert worker.worker.params.tolist() == [-(400.0 + 800.0)] * 3  # twice a hundred times twice the batch
    assert worker.counts == [(4.0, 4, 4), (4.0, 2, 2)]
    assert worker.sent == [2000, (4 + 1 + 2 + 1) * 8]


def test_means_are_weighted_by_samples() -> None:
    asked = answered(made(0, np.ones(4), np.ones(2)), present=False)
    assert [each.weight for each in asked if isinstance(each, AllReduce)] == [4, 2, 1.0]


def test_a_row_without_data_takes_part_with_weight_zero() -> None:
    worker = made(1, np.ones(2), steps=2)
    asked = answered(worker, present=True)
    kinds = [type(each) for each in asked]
    assert kinds[8:12] == [RollCall, Gradient, AllReduce, Update]
    assert [each.weight for each in asked if isinstance(each, AllReduce)] == [2, 0, 1.0]
    assert worker.worker.clock == 2
    assert worker.counts[1] == (0.0, 0, 0)
    assert not worker.worker.grad.any()


def test_at_the_end_every_part_comes_from_the_first_row() -> None:
    worker = made(2, np.ones(2))
    roots = [(each.root, each.buf.size) for each in answered(worker) if isinstance(each, Broadcast)]
    assert roots == [(0, 2), (1, 3)]
    assert [part.shape for part in worker.parts] == [(2,), (3,)]
    assert worker.worker.unmetered
    assert worker.told.tolist() == [[7.5, 1000.0, 24.0]] * 6  # 2 + 1 values given in two exchanges, and a mean
