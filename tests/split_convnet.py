"""A small convolutional network in numpy, split in two by its maps, and the same network whole."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import numpy as np

Array = Any
MAPS, CLASSES, SIDE = 4, 3, 6  # maps of either layer, both halves together
SHAPES = ((MAPS, 1, 3, 3), (MAPS, MAPS, 3, 3), (MAPS * (SIDE - 4) ** 2, CLASSES))
HALF = MAPS // 2


def windows(x: Array) -> Array:
    """Return the 3 x 3 windows of images: (rows, maps, height, width, 3, 3)."""
    return np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))  # type: ignore[call-overload]


def convolved(x: Array, weights: Array) -> Array:
    return np.einsum("nihwab,oiab->nohw", windows(x), weights)


def convolved_back(dy: Array, x: Array, weights: Array) -> tuple[Array, Array]:
    """Return the gradients of the weights and of the images."""
    padded = np.pad(dy, ((0, 0), (0, 0), (2, 2), (2, 2)))
    dx = np.einsum("nohwab,oiab->nihw", windows(padded), weights[:, :, ::-1, ::-1])
    return np.einsum("nihwab,nohw->oiab", windows(x), dy), dx


def scored(scores: Array, classes: Array) -> tuple[float, Array]:
    """Return the mean cross entropy and its gradient."""
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    chances = raised / raised.sum(axis=1, keepdims=True)
    rows = np.arange(len(classes))
    loss = float(-np.log(chances[rows, classes]).mean())
    chances[rows, classes] -= 1
    return loss, chances / len(classes)


def cut(x: Array, shapes: Any) -> list[Array]:
    sizes = np.cumsum([np.prod(shape) for shape in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(x, sizes), shapes, strict=True)]


def whole(x: Array, batch: Any) -> tuple[float, Array]:
    """Return loss and gradient of the network on one device."""
    first, second, dense = cut(x, SHAPES)
    images, classes = batch
    seen = np.maximum(convolved(images, first), 0)
    again = np.maximum(convolved(seen, second), 0)
    features = again.reshape(len(images), -1)
    loss, d_scores = scored(features @ dense, classes)
    d_again = (d_scores @ dense.T).reshape(again.shape) * (again > 0)
    d_second, d_seen = convolved_back(d_again, seen, second)
    d_first, _ = convolved_back(d_seen * (seen > 0), images, first)
    return loss, np.concatenate([d_first.ravel(), d_second.ravel(), (features.T @ d_scores).ravel()])


HALVES = ((HALF, 1, 3, 3), (HALF, MAPS, 3, 3), (HALF * (SIDE - 4) ** 2, CLASSES))


def half(x: Array, batch: Any, column: int) -> Generator[Array, list[Array], tuple[float, Array]]:
    """Compute the gradient of one half's parameters; give the other half its maps, scores and their gradients."""
    first, second, dense = cut(x, HALVES)
    images, classes = batch
    mine = np.maximum(convolved(images, first), 0)
    seen = np.concatenate((yield mine), axis=1)
    again = np.maximum(convolved(seen, second), 0)
    features = again.reshape(len(images), -1)
    scores = yield features @ dense
    loss, d_scores = scored(scores[0] + scores[1], classes)
    d_again = (d_scores @ dense.T).reshape(again.shape) * (again > 0)
    d_second, d_seen = convolved_back(d_again, seen, second)
    halves = d_seen[:, :HALF], d_seen[:, HALF:]
    from_other = (yield halves[1 - column])[1 - column]
    d_mine = (halves[column] + from_other) * (mine > 0)
    d_first, _ = convolved_back(d_mine, images, first)
    return loss, np.concatenate([d_first.ravel(), d_second.ravel(), (features.T @ d_scores).ravel()])


def start() -> Array:
    """Return the parameters of the whole network."""
    return np.random.default_rng(0).normal(size=sum(int(np.prod(shape)) for shape in SHAPES)) * 0.5


def split(x: Array) -> list[Array]:
    """Return the parameters of the halves."""
    parts = [np.split(each, 2) for each in cut(x, SHAPES)]
    return [np.concatenate([pair[column].ravel() for pair in parts]) for column in (0, 1)]


def exchanged(rows: int) -> int:
    """Return the values that a half gives the other for a batch: maps, scores, the gradients of maps."""
    maps = rows * HALF * (SIDE - 2) ** 2
    return 2 * maps + rows * CLASSES


def batches(row: int, rows: int, steps: int = 6, samples: int = 6) -> Iterator[Any]:
    """Return a row's part of the batches of all: the same images, however many rows there are."""
    random = np.random.default_rng(1)
    for _ in range(steps):
        images, classes = random.normal(size=(samples, 1, SIDE, SIDE)), random.integers(CLASSES, size=samples)
        yield images[row::rows], classes[row::rows]
