"""Buckets as Python has them: the numbers of single ops, one launch, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.cuda.making import KINDS, buffers, each_kind
from tests.cuda.stub import Array, Card
from tests.cuda.test_bucket import STARTS, scattered

from loosestep import ops
from loosestep.cuda.buckets import Bucket

SIZE = int(STARTS[-1])


@each_kind
@pytest.mark.parametrize("flat", KINDS)
def test_there_and_back(card: Card, kind: str, flat: str) -> None:
    tensors = scattered(kind)
    before = np.concatenate(tensors)
    bucket = Bucket([*map(Array, tensors)])
    (held,) = buffers(1, SIZE, flat)
    bucket.gather(Array(held), 4)
    assert held.tobytes() == (before.astype(KINDS[flat]) / KINDS[flat](4)).tobytes()
    bucket.scatter(Array(held), 0.25)
    assert np.concatenate(tensors).tobytes() == before.astype(KINDS[flat]).astype(KINDS[kind]).tobytes()
    assert len(card.launches) == 2


@each_kind
@pytest.mark.parametrize(
    ("op", "many", "scalars"),
    [
        ("sgd", 0, [0.1]),
        ("momentum", 1, [0.1, 0.9]),
        ("nesterov", 1, [0.1, 0.9]),
        ("adam", 2, [0.1, 0.9, 0.99, 1e-8, 3]),
    ],
)
def test_an_update(card: Card, kind: str, op: str, many: int, scalars: list[float]) -> None:
    tensors = scattered(kind)
    *state, g = buffers(many + 1, SIZE, kind)
    state = [np.abs(x) for x in state]
    x, kept = np.concatenate(tensors), [each.copy() for each in state]
    Bucket([*map(Array, tensors)]).update(op, Array(g), [*map(Array, state)], scalars, 3)
    getattr(ops, op)(x, *kept, g / KINDS[kind](3), *scalars)
    assert np.concatenate(tensors).tobytes() == x.tobytes()
    assert [each.tobytes() for each in state] == [each.tobytes() for each in kept]


def test_refused(card: Card) -> None:
    x, y = Array(np.ones(4, np.float32)), Array(np.ones(3))
    bucket = Bucket([x])
    with pytest.raises(ValueError, match="tensors must hold at least 1 array, got 0"):
        Bucket([])
    with pytest.raises(TypeError, match=r"tensors\[1\] must be float32 on card 0 like the first, got float64"):
        Bucket([x, y])
    with pytest.raises(ValueError, match=r"tensors\[0\] and tensors\[1\] must not overlap"):
        Bucket([x, x])
    with pytest.raises(ValueError, match="gather must have 4 elements on card 0, got 3 of float64"):
        bucket.gather(y)
    with pytest.raises(ValueError, match="op must write x and read g, as sgd, got 'elastic' of x, c"):
        bucket.update("elastic", x, [], [], 1)
    with pytest.raises(ValueError, match=r"state must be \['v'\] for momentum, got 0 buffers"):
        bucket.update("momentum", x, [], [0.1, 0.9], 1)
    assert not card.launches
    assert all((each.held == 1).all() for each in (x, y))


def test_no_elements_are_no_launch(card: Card) -> None:
    nothing: Any = Array(np.zeros(0, np.float32))
    Bucket([nothing]).gather(Array(np.zeros(0, np.float32)))
    assert not card.launches
