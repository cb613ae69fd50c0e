"""A split model is the whole one, whatever joins its workers, and sends what the formula says."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import numpy as np
import pytest
from tests import split_convnet as net

import loosestep as ls
from loosestep.foundation.errors import Diverged, WorkerFailed
from loosestep.runtime.split_model import SplitResult, run_split

Array = Any
SIZE = net.start().size // 2
OPTIMIZER = ls.Nesterov(0.05)
GRIDS = [
    ls.Threads(4),
    ls.Simulated(4),
    ls.Simulated(4, hosts=[2, 2]),
    ls.Simulated(4, hosts=[3, 1]),
    ls.Metered(ls.Threads(4)),
]


def trained(on: ls.Transport, **options: Any) -> SplitResult:
    return run_split(net.half, net.split(net.start()), net.batches, optimizer=OPTIMIZER, on=on, **options)


def alone() -> Array:
    """What one device makes of the whole network, in plain numpy."""
    x, losses, momentum = net.start(), [], np.zeros(2 * SIZE)
    for batch in net.batches(0, 1):
        loss, gradient = net.whole(x, batch)
        losses.append(loss)
        momentum = 0.9 * momentum - 0.05 * gradient
        x = x + 0.9 * momentum - 0.05 * gradient
    return x, losses


def test_the_network_is_differentiated_right() -> None:
    x, way = net.start(), np.random.default_rng(3).normal(size=2 * SIZE)
    batch = next(net.batches(0, 1))
    gradient = net.whole(x, batch)[1]
    slope = (net.whole(x + 1e-6 * way, batch)[0] - net.whole(x - 1e-6 * way, batch)[0]) / 2e-6
    assert slope == pytest.approx(gradient @ way, rel=1e-7)


@pytest.mark.parametrize("on", [ls.Threads(2), *GRIDS, ls.Threads(6)], ids=repr)
def test_halves_on_a_grid_are_the_network_on_one_device(on: ls.Transport) -> None:
    result, (x, losses) = trained(on), alone()
    for part, expected in zip(result.parts, net.split(x), strict=True):
        np.testing.assert_allclose(part, expected, rtol=0, atol=1e-13)
    np.testing.assert_allclose(result.losses, losses, rtol=1e-13)
    assert result.loss == result.losses[-1]
    assert (result.steps, result.samples) == (6, 36)


@pytest.mark.parametrize("on", GRIDS[1:], ids=repr)
def test_bits_are_the_same_on_every_transport(on: ls.Transport) -> None:
    first, other = trained(GRIDS[0]), trained(on)
    assert [part.tobytes() for part in first.parts] == [part.tobytes() for part in other.parts]
    assert first.losses.tobytes() == other.losses.tobytes()
    assert (first.gradient_bytes, first.exchange_bytes) == (other.gradient_bytes, other.exchange_bytes)


@pytest.mark.parametrize("on", GRIDS, ids=repr)
def test_traffic_is_the_formulas(on: ls.Transport) -> None:
    """2 (R-1)/R d_c values for the mean of a part over R rows; what the halves give each other."""
    result = trained(on)
    assert result.gradient_bytes == (6 * 2 * 1 // 2 * SIZE * 8,) * 4
    assert result.exchange_bytes == (6 * net.exchanged(3) * 8,) * 4
    if isinstance(on, ls.Metered):
        sent = [meter.bytes for meter in on.meters]
        pairs = zip(result.gradient_bytes, result.exchange_bytes, strict=True)
        assert sent == [sum(pair) for pair in pairs]


def test_halves_send_half_of_what_whole_replicas_send() -> None:
    """Of as many replicas; of as many workers, a third on a grid of 2 x 2."""
    grid = trained(ls.Threads(4)).gradient_bytes[0]
    replicas, workers = (
        ls.run(ls.AllReduceSGD(), net.whole, net.start(), net.batches, on=ls.Threads(n)).bytes_sent for n in (2, 4)
    )
    assert replicas == 2 * grid
    assert workers == pytest.approx(3 * grid, rel=0.01)


def test_on_slow_links_a_grid_is_faster_than_whole_replicas() -> None:
    """The paper's finding for 4 GPUs, where a worker computes a fourth of a step either way."""
    on, batches = ls.Simulated(4, latency=0.0, bandwidth=1e4, step_time=1e-6), partial(net.batches, samples=4)
    grid = run_split(net.half, net.split(net.start()), batches, on=on)
    replicas = ls.run(ls.AllReduceSGD(), net.whole, net.start(), batches, on=on)
    sent = (2 * 1 / 2 * SIZE + net.exchanged(2)) * 8
    assert grid.seconds == pytest.approx(6 * sent / 1e4, rel=0.01)
    assert grid.seconds < 0.8 * replicas.seconds


def test_without_rows_nothing_is_sent_for_gradients() -> None:
    result = trained(ls.Threads(2))
    assert result.gradient_bytes == (0, 0)
    assert result.exchange_bytes == (6 * net.exchanged(6) * 8,) * 2


def test_of_one_part_it_is_synchronous_sgd_to_the_bit() -> None:
    def gradient(x: Array, batch: Any, column: int) -> Generator[Array, list[Array], Any]:
        (images,) = yield batch[0]
        assert (images == batch[0]).all()
        return net.whole(x, batch)

    split = run_split(gradient, [net.start()], net.batches, optimizer=OPTIMIZER, on=ls.Threads(3))
    synchronous = ls.run(
        ls.AllReduceSGD(), net.whole, net.start(), net.batches, optimizer=OPTIMIZER, on=ls.Threads(3)
    )
    assert split.parts[0].tobytes() == synchronous.workers[0].params.tobytes()  # their mean is rounded
    assert split.exchange_bytes == (0, 0, 0)
    assert run_split(gradient, [net.start()], net.batches, on=ls.Serial()).steps == 6


def test_rows_whose_data_has_ended_stay_with_weight_zero() -> None:
    def batches(row: int, rows: int) -> Any:
        return net.batches(row, rows, steps=6 if row == 0 else 2)

    result = run_split(net.half, net.split(net.start()), batches, optimizer=OPTIMIZER, on=ls.Threads(4))
    assert (result.steps, result.samples) == (6, 2 * 6 + 4 * 3)
    one, other = (partial(net.batches, row, 2) for row in (0, 1))

    def union(rank: int, size: int) -> Any:
        for step, (images, classes) in enumerate(one()):
            more = list(other())[step] if step < 2 else (images[:0], classes[:0])
            yield np.concatenate([images, more[0]]), np.concatenate([classes, more[1]])

    expected = ls.run(ls.AllReduceSGD(), net.whole, net.start(), union, optimizer=OPTIMIZER, on=ls.Serial())
    for part, whole in zip(result.parts, net.split(expected.params), strict=True):
        np.testing.assert_allclose(part, whole, rtol=0, atol=1e-13)


def test_steps_end_the_run() -> None:
    assert trained(ls.Threads(4), steps=3).steps == 3
    assert len(trained(ls.Threads(4), steps=3).losses) == 3


def test_a_simulated_step_takes_its_time_and_that_of_its_messages() -> None:
    free = trained(ls.Simulated(4, latency=0.0, bandwidth=1e30, step_time=1.0))
    assert free.virtual
    assert free.seconds == pytest.approx(6.0)
    slow = trained(ls.Simulated(4, latency=0.25, bandwidth=1e30, step_time=1.0))
    assert slow.seconds >= 6 * (1 + 3 * 0.25 + 2 * 0.25)


def test_gradients_need_no_loss() -> None:
    def gradient(x: Array, batch: Any, column: int) -> Generator[Array, list[Array], Array]:
        halves = yield x[:2].astype(np.float32)
        assert [half.dtype for half in halves] == [np.float32] * 2
        return x - batch

    result = run_split(gradient, [np.zeros(2), np.zeros(3)], lambda row, rows: iter([1.0] * 3), on=ls.Threads(2))
    assert np.isnan(result.losses).all()


def mistaken(yielded: Any) -> Callable[..., Any]:
    def gradient(x: Array, batch: Any, column: int) -> Generator[Array, list[Array], Array]:
        yield yielded(column) if callable(yielded) else yielded
        return np.zeros_like(x)

    return gradient


def test_bad_input_is_named() -> None:
    parts, on = net.split(net.start()), ls.Threads(4)
    with pytest.raises(ValueError, match=r"a model in 2 parts needs a multiple of 2 workers, and .*3.* has 3"):
        run_split(net.half, parts, net.batches, on=ls.Threads(3))
    with pytest.raises(ValueError, match="parts must hold the parameters of one column at least, got none"):
        run_split(net.half, [], net.batches, on=on)
    with pytest.raises(TypeError, match=r"gradient must be a function of \(x, batch, column\), got 3"):
        run_split(3, parts, net.batches, on=on)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the data is empty: no row got a single batch"):
        run_split(net.half, parts, lambda row, rows: iter(()), on=on)
    with pytest.raises(TypeError, match="optimizer must be an Optimizer, got .*did you mean SGD"):
        run_split(net.half, parts, net.batches, optimizer=ls.SGD, on=on)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="optimizer must not be a sampler: parts of a model would have one noise"):
        run_split(net.half, parts, net.batches, optimizer=ls.SGLD(), on=on)


@pytest.mark.parametrize(
    ("gradient", "told"),
    [
        (
            lambda x, batch, column: x,
            r"gradient must be a generator, which yields what other parts need, got",
        ),
        (mistaken(3.0), "exchange 1 of part . must yield a float32 or float64 array, got a float"),
        (mistaken(np.zeros(3, int)), r"must yield a float32 or float64 array, got shape \(3,\) of int64"),
        (
            mistaken(lambda column: np.zeros(3 + column)),
            "rank 1 asked for all_gather of 4 float64, rank 0 .* of 3 float64, in round 1",
        ),
    ],
)
def test_mistakes_of_a_gradient_are_named(gradient: Any, told: str) -> None:
    with pytest.raises(Exception, match=told):
        run_split(gradient, net.split(net.start()), net.batches, on=ls.Threads(2))


def test_a_loss_that_is_not_finite_ends_the_run() -> None:
    def gradient(x: Array, batch: Any, column: int) -> Generator[Array, list[Array], Any]:
        yield x
        return np.nan, x

    with pytest.raises((Diverged, WorkerFailed), match="diverged"):
        run_split(gradient, net.split(net.start()), net.batches, on=ls.Threads(2))
