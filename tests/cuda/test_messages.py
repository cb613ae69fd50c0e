"""What is sent in place of a buffer, as Python has it: the message and what stays add up to what was there."""

from __future__ import annotations

import numpy as np
import pytest
from tests.cuda.making import buffers, each_kind
from tests.cuda.stub import Array, Card
from tests.cuda.test_codecs import largest

from loosestep import ops
from loosestep.cuda import codecs


@each_kind
def test_signs(card: Card, kind: str) -> None:
    (x,) = buffers(1, 5000, kind)
    before, out = x.copy(), np.empty_like(x)
    message = codecs.take_signs(Array(x))
    codecs.from_signs(message, Array(out))
    assert message.scale == ops.dot(np.abs(before), np.ones_like(before)) / 5000
    assert np.unique(np.abs(out)).size == 1
    assert x.tobytes() == (before - out).tobytes()


@each_kind
def test_bytes(card: Card, kind: str) -> None:
    (x,) = buffers(1, 5000, kind)
    before, out = x.copy(), np.empty_like(x)
    codecs.from_bytes(codecs.take_bytes(Array(x)), Array(out))
    assert x.tobytes() == (before - out).tobytes()
    assert np.abs(x).max() <= np.abs(before).max() / 250


@pytest.mark.parametrize("k", [1, 77, 5000])
def test_the_largest(card: Card, k: int) -> None:
    (x,) = buffers(1, 5000, "float")
    before, want = x.copy(), largest(x, k)
    message = codecs.take_largest(Array(x), k)
    assert message.places.held.tolist() == want.tolist()
    assert message.values.held.tobytes() == before[want].tobytes()
    before[want] = 0
    assert x.tobytes() == before.tobytes()


def test_refused(card: Card) -> None:
    x = Array(np.ones(4, np.float32))
    with pytest.raises(ValueError, match="take_largest: k must be from 1 to 4 of float32, got 5 of float32"):
        codecs.take_largest(x, 5)
    with pytest.raises(ValueError, match="take_signs: x must hold at least 1 element, got 0"):
        codecs.take_signs(Array(np.ones(0, np.float32)))
    assert not card.launches
