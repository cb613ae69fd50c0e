"""A grid of model and data parallelism: where it is faster than replicas

A grid of 2 x 2 devices, each row a replica in two halves, sends half of what four replicas send for gradients, and
was faster: AlexNet on 4 GPUs took 4.8 days instead of 7.2 (O. Yadan, K. Adams, Y. Taigman, M. Ranzato, Multi-GPU
Training of ConvNets, arXiv:1312.5853). With which links? Here `loosestep.run_split` trains a convolutional network
(8 and 16 maps of 3 x 3, a dense layer of 128 units, 10 classes; 35 thousand parameters, float64) on the 8 x 8
digits, by 4 workers: 4 x 1 (whole replicas), 2 x 2 (halves), 1 x 4 (quarters of one replica). All layers are split
by their maps or units, and every part sees all maps of the layer before. Time is virtual: a row of images takes
0.125 ms on one worker, so a step of 32 takes 1 ms on each of four, in every grid; a message 20 us, and its bytes
at the link's bandwidth. Steps have 32 or 128 rows together, whichever the grid.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

import loosestep as ls
from bench.papers.drawing import Ends
from bench.papers.rows import rows_of
from bench.papers.study import Study
from bench.papers.tables import ACCURACY, Across, Column, Plain, last
from bench.papers.types import Contender, Run
from loosestep.data import Dataset
from loosestep.requests import Request
from loosestep.requests.worker import Worker
from loosestep.strategies.base import State

Array = Any
SIDE, MAPS, UNITS, CLASSES = 8, (8, 16), 128, 10
STEPS, ROW_TIME, LATENCY = 20, 1.25e-4, 2e-5
BANDWIDTHS = (10, 30, 100, 300, 1000, 3000, 10_000)  # MB/s
GRIDS = {"4 x 1": 1, "2 x 2": 2, "1 x 4": 4}
Exchanges = Generator[Array, list[Array], Any]


@dataclass(frozen=True, repr=False)
class Grid(ls.Strategy):
    """Into how many parts the model is split, as the setting of a contender."""

    parts: int

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        raise TypeError("run_split makes the steps")


def shapes(parts: int) -> tuple[tuple[int, ...], ...]:
    """Return the tensors of a part."""
    one, two = MAPS
    return (
        (one // parts, 1, 3, 3),
        (two // parts, one, 3, 3),
        (two * (SIDE - 4) ** 2, UNITS // parts),
        (UNITS // parts, CLASSES),
    )


SPLIT_AXES = (0, 0, 1, 0)


def start(seed: int) -> list[Array]:
    """Return the tensors of the whole network: normal with variance 2/inputs."""
    random = np.random.default_rng(seed)
    inputs = [9, 9 * MAPS[0], shapes(1)[2][0], UNITS]
    return [random.normal(0, (2 / n) ** 0.5, shape) for n, shape in zip(inputs, shapes(1), strict=True)]


def split(tensors: list[Array], parts: int) -> list[Array]:
    """Return the parameters of each part, flat."""
    pieces = [np.split(each, parts, axis) for each, axis in zip(tensors, SPLIT_AXES, strict=True)]
    return [np.concatenate([piece[column].ravel() for piece in pieces]) for column in range(parts)]


def joined(flat: list[Array]) -> list[Array]:
    """Return the whole tensors of parts."""
    parts = [cut(part, shapes(len(flat))) for part in flat]
    return [np.concatenate(each, axis) for each, axis in zip(zip(*parts, strict=True), SPLIT_AXES, strict=True)]


def cut(x: Array, into: tuple[tuple[int, ...], ...]) -> list[Array]:
    ends = np.cumsum([np.prod(shape) for shape in into])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(x, ends), into, strict=True)]


def windows(x: Array) -> Array:
    """Return the 3 x 3 windows of images: (rows, maps, height, width, 3, 3)."""
    return np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))


def convolved(x: Array, weights: Array) -> Array:
    return np.moveaxis(np.tensordot(windows(x), weights, ([1, 4, 5], [1, 2, 3])), -1, 1)


def convolved_back(dy: Array, x: Array, weights: Array) -> tuple[Array, Array]:
    """Return the gradients of the weights and of the images."""
    padded = np.pad(dy, ((0, 0), (0, 0), (2, 2), (2, 2)))
    dx = np.tensordot(windows(padded), weights[:, :, ::-1, ::-1], ([1, 4, 5], [0, 2, 3]))
    dw = np.tensordot(windows(x), dy, ([0, 2, 3], [0, 2, 3]))
    return np.moveaxis(dw, -1, 0), np.moveaxis(dx, -1, 1)


def scored(scores: Array, classes: Array) -> tuple[float, Array]:
    """Return the mean cross entropy and its gradient."""
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    chances = raised / raised.sum(axis=1, keepdims=True)
    rows = np.arange(len(classes))
    loss = float(-np.log(chances[rows, classes]).mean())
    chances[rows, classes] -= 1
    return loss, chances / len(classes)


def summed(whole: Array, column: int, parts: int) -> Exchanges:
    """Give the other parts what is theirs of this part's gradient; return the sum of what is this part's."""
    if parts == 1:
        return whole
    pieces = np.split(whole, parts, axis=1)
    given = yield np.concatenate([piece for number, piece in enumerate(pieces) if number != column], axis=1)
    total = pieces[column]
    for other, array in enumerate(given):
        if other != column:
            total = total + np.split(array, parts - 1, axis=1)[column - (column > other)]
    return total


def gradient(x: Array, batch: Any, column: int, parts: int) -> Exchanges:
    """Return loss and gradient of one part."""
    first, second, third, fourth = cut(x, shapes(parts))
    images, classes = batch
    mine = np.maximum(convolved(images, first), 0)
    seen = np.concatenate((yield mine), axis=1)
    again = np.maximum(convolved(seen, second), 0)
    features = np.concatenate((yield again.reshape(len(images), -1)), axis=1)
    hidden = np.maximum(features @ third, 0)
    scores = np.sum((yield hidden @ fourth), axis=0)
    loss, d_scores = scored(scores, classes)
    d_hidden = (d_scores @ fourth.T) * (hidden > 0)
    d_features = yield from summed(d_hidden @ third.T, column, parts)
    d_second, d_seen = convolved_back(d_features.reshape(again.shape) * (again > 0), seen, second)
    d_mine = (yield from summed(d_seen, column, parts)) * (mine > 0)
    d_first, _ = convolved_back(d_mine, images, first)
    made = d_first, d_second, features.T @ d_hidden, hidden.T @ d_scores
    return loss, np.concatenate([each.ravel() for each in made])


def whole_scores(tensors: list[Array], images: Array) -> Array:
    first, second, third, fourth = tensors
    maps = np.maximum(convolved(np.maximum(convolved(images, first), 0), second), 0)
    return np.maximum(maps.reshape(len(images), -1) @ third, 0) @ fourth


def images(rows: Array) -> Array:
    return rows.reshape(-1, 1, SIDE, SIDE).astype(np.float64)


def batches_of(data: Dataset, together: int, steps: int, seed: int) -> Callable[[int, int], Iterator[Any]]:
    """Return each row's part of the same batches, however many rows the grid has."""

    def batches(row: int, rows: int) -> Iterator[Any]:
        random = np.random.default_rng(seed)
        for _ in range(steps):
            pick = random.permutation(len(data.x_train))[:together][row::rows]
            yield images(data.x_train[pick]), data.y_train[pick]

    return batches


def trained(parts: int, on: ls.Simulated, together: int, steps: int, seed: int) -> ls.SplitResult:
    return ls.run_split(
        partial(gradient, parts=parts),
        split(start(seed), parts),
        batches_of(rows_of("digits"), together, steps, seed),
        optimizer=ls.SGD(0.05),
        on=on,
    )


@cache
def alone(together: int, steps: int, seed: int) -> Array:
    """Return the parameters that one worker comes to."""
    return np.concatenate(
        [each.ravel() for each in joined(list(trained(1, ls.Simulated(1), together, steps, seed).parts))]
    )


def measure(contender: Contender, seed: int, every: int) -> Run:
    """Train on the grid; one point, at the end."""
    grid, on = contender.strategy, contender.on
    assert isinstance(grid, Grid)
    assert isinstance(on, ls.Simulated)
    steps, together = contender.steps, contender.batch
    found = trained(grid.parts, on, together, steps, seed)
    tensors, test = joined(list(found.parts)), rows_of("digits").test
    wanted = alone(together, steps, seed)
    flat = np.concatenate([each.ravel() for each in tensors])
    told = {
        "step": steps,
        "milliseconds": 1000 * found.seconds / steps,
        "gradients": max(found.gradient_bytes) / steps,
        "exchanges": max(found.exchange_bytes) / steps,
        "loss": found.losses[-5:].mean(),
        "test_accuracy": (whole_scores(tensors, images(test[0])).argmax(axis=1) == test[1]).mean(),
        "apart": np.abs(flat - wanted).max() / np.abs(wanted).max(),
    }
    return Run(contender.setting, seed, [{name: float(f"{value:.6g}") for name, value in told.items()}])


def contenders() -> Iterator[Contender]:
    for together in (32, 128):
        for bandwidth in BANDWIDTHS:
            for label, parts in {**GRIDS, "one worker": 1}.items():
                workers = 1 if label == "one worker" else 4
                on = ls.Simulated(workers, ROW_TIME * together / workers, LATENCY, 1e6 * bandwidth)
                yield Contender(
                    label, Grid(parts), on=on, steps=STEPS, batch=together, data="digits", at=bandwidth,
                    panel=f"{together} rows a step",
                )  # fmt: skip


STEP = Column("virtual ms a step", last("milliseconds"), ".3g")
GRADIENTS = Column("kB a step for gradients", last("gradients"), ".4g", 1e-3)
EXCHANGED = Column("kB a step for exchanges", last("exchanges"), ".4g", 1e-3)
APART = Column("parameters' distance from one worker's", last("apart"), ".0e")
LOSS = Column("training loss", last("loss"), ".4f")


class Same(Plain):
    """The columns that do not depend on the link: of its first bandwidth."""

    def lines(self, found: Any) -> Iterator[str]:
        yield from super().lines({each: runs for each, runs in found.items() if each.at == BANDWIDTHS[0]})


STUDY = Study(
    tuple(contenders()),
    pictures=(Ends("bandwidth of a link, MB/s", STEP, logarithmic_up=True),),
    tables=(Same((GRADIENTS, EXCHANGED, LOSS, ACCURACY, APART)), Across("MB/s:", STEP)),
    measure=measure,
)
FINDINGS = """
## What it shows

- **With 32 rows a step the grid of 2 x 2 sends half of what four replicas send** (212 and 423 kB a worker): a
  third for gradients, and the rest for what its halves exchange. Parameters are those of one worker to 2e-16 on
  every grid.
- **So it is up to twice as fast where links are slow**: 1.9 times at 10 MB/s, 1.6 at 100, 1.3 at 300. It pays 7
  latencies a step where an all-reduce of whole replicas pays 2, so that **the lines cross at 2.1 GB/s**: from
  there on replicas are faster, by 7 % at most. Below 74 MB/s one worker alone is faster than any four.
- **The paper's figures fit.** At 249 MB/s four replicas are 1.46 times as fast as one worker, as there; the grid
  is 2.0 times as fast, where the paper has 2.2.
- **It is a matter of the batch.** What parts exchange grows with the rows of a step, gradients do not: the two
  send the same at 127 rows, and with 128 the grid is slower than replicas on every link, by 0.1 ms. Networks
  with more parameters for each activation, such as AlexNet with its dense layers, have that limit higher.
- **Quarters of one replica are never first**: with 32 rows their line lies on that of four replicas, with 128
  they send four times as much.

Numbers of 20 steps are those of the beginning of a training, and differ much by seed. Times are arithmetic of
the prices, the same for every seed. Nothing is sent while a worker computes, which would favour replicas.
"""
