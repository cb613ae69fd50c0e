"""A table of which each batch touches few rows: no strategy's results depend on how its gradient is sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.contract.parametrize import EPOCH, EXAMPLES, MANY, near
from tests.contract.problem import Own
from tests.looped import looped

import loosestep as ls
from loosestep.foundation import buffers
from loosestep.requests import Shared, Start
from loosestep.requests.row_gradients import Form, RowTensor
from loosestep.requests.worker import Worker
from loosestep.strategies.base import Strategy
from loosestep.strategies.error_feedback import within
from loosestep.transports.base import Transport

SHAPES = [(3, 2), (20, 3), (5,), (4, 2)]
PLACES = np.cumsum([0, *map(int, map(np.prod, SHAPES))])
TABLES = (1, 3)  # of the second most rows are touched
STEPS = 8
Batch = tuple[list[Any], Any]


def batches(rank: int, size: int) -> Iterator[Batch]:
    """Rows of both tables, some twice; as many as the rank says, so that workers weigh differently."""
    draw = np.random.default_rng(rank)
    for _ in range(STEPS - rank % 2):
        rows = [draw.integers(0, 20, 2 + rank), draw.integers(0, 4, 2 + rank)]
        yield (draw.standard_normal(2 + rank).astype(np.float32), rows)


def gradient(x: Any, batch: Any, *, by_rows: bool = False) -> tuple[float, list[Any]]:
    weights, rows = batch
    parts = [x[low:high].reshape(shape) for low, high, shape in zip(PLACES, PLACES[1:], SHAPES, strict=False)]
    found: list[Any] = [part - weights.sum() for part in parts]
    for number, touched in zip(TABLES, rows, strict=True):
        table, values = parts[number], (parts[number][touched] - 1) * weights[:, None]
        found[number] = ls.Rows(touched, values)
        if not by_rows:
            found[number] = np.zeros_like(table)
            np.add.at(found[number], touched, values)
    return float(np.square(x).mean()), found


def trained(strategy: Strategy, on: Transport, how: str) -> ls.Result:
    wants = ls.Need.GLOBAL_BATCHES in strategy.needs
    return ls.run(
        strategy,
        lambda x, batch: gradient(x, batch, by_rows=how == "rows"),
        np.linspace(-1, 1, PLACES[-1], dtype=np.float32),
        (lambda rank, size: map(Own, batches(rank, size))) if wants else batches,
        on=on,
        optimizer=ls.SGD(0.05),
        shapes=SHAPES,
        sparse=() if how == "dense" else TABLES,
        steps_per_epoch=EPOCH,
    )


def header(n: int) -> int:
    """Bytes that tell all others in a step how many rows a worker has of each table, and what it weighs."""
    return (n - 1) * 8 * (1 + len(TABLES))


def averages_gradients(strategy: Strategy) -> bool:
    """Return whether it, or its first stage, asks for the mean of a part of the gradient, of all workers."""
    share = lambda name, like: Shared(name, like.size, like.dtype, like)  # noqa: E731
    one = Worker(0, 2, buffers.zeros(64), share)
    one.round, one.samples, one.losses = 1, 1, (1.0, 1)
    first = strategy.stages[0][0]
    for request in first.round(one, first.init(one)):
        if isinstance(request, Start) and within(getattr(request.request, "buf", one.params), one.grad):
            return True
    return False


@looped("strategy", EXAMPLES)
def test_no_bit_depends_on_how_a_gradient_is_sent(strategy: Strategy) -> None:
    dense, scanned, rows = (trained(strategy, near(ls.Simulated, 3), how) for how in ("dense", "scanned", "rows"))
    assert np.array_equal(dense.params, scanned.params)
    assert np.array_equal(dense.params, rows.params)
    assert scanned.bytes_sent == rows.bytes_sent <= dense.bytes_sent
    assert (rows.bytes_sent < dense.bytes_sent) == averages_gradients(strategy)


@pytest.mark.parametrize("kind", MANY)
def test_on_every_transport_the_same_bits_and_bytes(kind: type[Transport]) -> None:
    dense, rows = (trained(ls.AllReduceSGD(), near(kind, 4), how) for how in ("dense", "rows"))
    assert np.array_equal(dense.params, rows.params)
    assert rows.bytes_sent == trained(ls.AllReduceSGD(), near(ls.Simulated, 4), "rows").bytes_sent


@pytest.mark.parametrize("hosts", [(2, 2), (3, 1), (1, 1, 1, 1)])
def test_between_hosts_sums_keep_their_order(hosts: tuple[int, ...]) -> None:
    on = ls.Simulated(4, hosts=hosts)
    dense, rows = (trained(ls.AllReduceSGD(), on, how) for how in ("dense", "rows"))
    assert np.array_equal(dense.params, rows.params)
    assert rows.bytes_sent < dense.bytes_sent


def test_a_step_sends_the_rows_that_are_counted() -> None:
    """Three workers: rows of the first table, counts of both, all else whole."""
    result = trained(ls.AllReduceSGD(), near(ls.Simulated, 3), "rows")
    read = [list(batches(rank, 3)) for rank in range(3)]
    whole = 4.0 * (PLACES[-1] - 60)
    expected = 0.0
    for step in range(STEPS):
        counts = [[len(set(each)) for each in of[step][1]] if step < len(of) else [0, 0] for of in read]
        longest = max(count for count, _ in counts)
        assert 3 * longest * 16 < 2 * 240  # so the first table goes by rows
        most = max(count for _, count in counts)
        short = 3 * most * 12 < 2 * 32
        words = -(-(longest * 16 + (most * 12 if short else 0)) // 8)
        expected += header(3) + 2 * 8 * words + 4 / 3 * (whole - (32 if short else 0))
    assert result.bytes_sent == int(expected)


def test_where_most_rows_are_touched_only_the_counts_are_sent_besides() -> None:
    def touched(x: Any, batch: Any) -> Any:
        return x - batch

    def run(**options: Any) -> ls.Result:
        data = lambda rank, size: iter([np.float32(rank)] * 5)  # noqa: E731
        x0 = np.ones(600, np.float32)
        return ls.run(ls.AllReduceSGD(), touched, x0, data, on=near(ls.Simulated, 4), **options)

    dense, sparse = run(), run(shapes=[(150, 4)], sparse=[0])
    assert np.array_equal(dense.params, sparse.params)
    assert sparse.bytes_sent == dense.bytes_sent + 5 * 3 * 8 * 2


def crowded(on: Transport, sparse: tuple[int, ...]) -> ls.Result:
    """Train two tables of 50 rows, of which workers have almost all; weights differ, some end before others."""

    def data(rank: int, size: int) -> Iterator[Any]:
        draw = np.random.default_rng(rank)
        for _ in range(5 - rank % 2):
            rows = draw.integers(0, 50, 30 + rank), draw.integers(0, 45, 30)
            yield draw.standard_normal((30 + rank, 20)).astype(np.float32), rows

    def by_rows(x: Any, batch: Any) -> list[Any]:
        values, (first, last) = batch
        return [ls.Rows(first, values), x[1000:1003], ls.Rows(last, values[:30] * x[:20])]

    def whole(x: Any, batch: Any) -> Any:
        found = [each if isinstance(each, np.ndarray) else as_table(each) for each in by_rows(x, batch)]
        return np.concatenate([each.reshape(-1) for each in found])

    def as_table(rows: ls.Rows) -> Any:
        table = np.zeros((50, 20), np.float32)
        np.add.at(table, rows.rows, rows.values)
        return table

    x0, shapes = np.linspace(-1, 1, 2003, dtype=np.float32), [(50, 20), (3,), (50, 20)]
    gradient = by_rows if sparse else whole
    return ls.run(ls.AllReduceSGD(), gradient, x0, data, on=on, shapes=shapes, sparse=sparse)


@pytest.mark.parametrize("kind", MANY)
@pytest.mark.parametrize("n", [4, 8])
def test_where_workers_have_most_rows_together_each_row_has_an_owner(
    kind: type[Transport], n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    forms: list[Form] = []
    choose = RowTensor.form

    def watched(*given: Any, **more: Any) -> Form:
        forms.append(choose(*given, **more))
        return forms[-1]

    monkeypatch.setattr(RowTensor, "form", watched)
    dense, rows = crowded(near(kind, n), ()), crowded(near(kind, n), (0, 2))
    assert np.array_equal(dense.params, rows.params)
    assert rows.bytes_sent < dense.bytes_sent
    assert forms == [Form.OWNERS] * (2 * 5 * n)


def test_of_a_resumed_run_all_bits_are_the_same(tmp_path: Any) -> None:
    unbroken = trained(ls.AllReduceSGD(), ls.Threads(2), "rows").params
    options: dict[str, Any] = {"shapes": SHAPES, "sparse": TABLES, "on": ls.Threads(2), "checkpoint": tmp_path}
    for steps in (3, None):
        result = ls.run(
            ls.AllReduceSGD(),
            lambda x, batch: gradient(x, batch, by_rows=True),
            np.linspace(-1, 1, PLACES[-1], dtype=np.float32),
            batches,
            optimizer=ls.SGD(0.05),
            steps=steps,
            resume=True,
            **options,
        )
    assert np.array_equal(result.params, unbroken)
