"""Buckets as Python has them: the numbers of single ops, one launch, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.cuda.carriers import Carrier
from tests.cuda.making import KINDS, buffers, each_kind
from tests.cuda.stub import Array, Card
from tests.cuda.test_bucket import NAMES, STARTS, scattered
from tests.cuda.test_elementwise import scalars

from loosestep import ops
from loosestep.cuda import elementwise
from loosestep.cuda.buckets import Bucket

SIZE = int(STARTS[-1])


def there(carrier: Carrier, tensors: list[np.ndarray]) -> list[Any]:
    """Each elsewhere, relative to 16 bytes."""
    return [carrier.put(x, i % 3) for i, x in enumerate(tensors)]


@each_kind
@pytest.mark.parametrize("flat", KINDS)
def test_there_and_back(carrier: Carrier, kind: str, flat: str) -> None:
    before = np.concatenate(scattered(kind))
    tensors, held = there(carrier, scattered(kind)), carrier.put(np.zeros(SIZE, KINDS[flat]))
    bucket = Bucket(tensors)
    bucket.gather(held, 4)
    assert carrier.same([held], [before.astype(KINDS[flat]) / KINDS[flat](4)])
    bucket.scatter(held, 0.25)
    found = np.concatenate([carrier.got(x) for x in tensors])
    assert found.tobytes() == before.astype(KINDS[flat]).astype(KINDS[kind]).tobytes()
    assert len(carrier.launches()) in (0, 2)


@pytest.mark.parametrize("pair", [(np.float16, np.float16), (np.float16, np.float32), (np.float32, np.float16)])
def test_a_thousand_tensors_of_odd_sizes(carrier: Carrier, pair: tuple[Any, Any]) -> None:
    rng = np.random.default_rng(0)
    given = [(rng.random(size) - 0.5).astype(pair[0]) for size in rng.integers(0, 200, 1000)]
    tensors, flat = there(carrier, given), np.concatenate(given).astype(pair[1])
    bucket, held = Bucket(tensors), carrier.put(np.zeros_like(flat), 1)
    bucket.gather(held)
    assert carrier.same([held], [flat])
    ops.scale(held, 2.0)
    bucket.scatter(held, 2)
    assert carrier.same(tensors, [x.astype(pair[1]).astype(pair[0]) for x in given])


@each_kind
@pytest.mark.parametrize("op", NAMES)
def test_an_update(carrier: Carrier, kind: str, op: str) -> None:
    names, count, _ = elementwise.signature(op)
    g, flat = names.index("g"), [np.abs(x) for x in buffers(count, SIZE, kind)]
    tensors, held = there(carrier, scattered(kind)), carrier.put_all(flat)
    state = [x for i, x in enumerate(held) if i not in (0, g)]
    Bucket(tensors).update(op, held[g], state, scalars(op), 3)
    wanted = [np.concatenate(scattered(kind)), *flat[1:]]
    wanted[g] = flat[g] / KINDS[kind](3)
    getattr(ops, op)(*wanted, *scalars(op))
    assert np.concatenate([carrier.got(x) for x in tensors]).tobytes() == wanted[0].tobytes()
    assert carrier.same(state, [x for i, x in enumerate(wanted) if i not in (0, g)])
    assert carrier.same([held[g]], [flat[g]])


def test_refused(carrier: Carrier) -> None:
    x, y, z, g = carrier.put_all([np.ones(8, np.float32), np.ones(3), np.ones(8), np.ones(8, np.float32)])
    bucket = Bucket([x])
    for says, call in {
        "Bucket: tensors must hold at least 1 array, got 0": lambda: Bucket([]),
        "Bucket: tensors[1] must be float32 on card 0 like the first, got float64 on card 0": lambda: Bucket(
            [x, y]
        ),
        "Bucket: tensors[0] and tensors[1] must not overlap": lambda: Bucket([x[4:], x[:5]]),
        "Bucket: tensors[0] must be contiguous, got strides (8,) for (4,)": lambda: Bucket([x[::2]]),
        "Bucket: gather and the tensors must not overlap": lambda: bucket.gather(x),
        "Bucket: gather must have 8 elements on card 0, got 3 of float64 on card 0": lambda: bucket.gather(y),
        "Bucket: gather must be on a card, like the op's other buffers, got a numpy.ndarray": (
            lambda: bucket.gather(np.ones(8, np.float32))
        ),
        "Bucket: g must have 8 float32 elements on card 0, got 8 of float64 on card 0": (
            lambda: bucket.update("sgd", z, [], [0.1], 1)
        ),
        "update: op must write x and read g, as sgd, got 'elastic' of x, c": (
            lambda: bucket.update("elastic", g, [], [0.1], 1)
        ),
        "update: op must write x and read g, as sgd, got 'lamb' of x, m, v, g": (
            lambda: bucket.update("lamb", g, [], [], 1)
        ),
        "update: state must be ['v'] for momentum, got 0 buffers": (
            lambda: bucket.update("momentum", g, [], [0.1, 0.9], 1)
        ),
        "update: v and g must not overlap": lambda: bucket.update("momentum", g, [g], [0.1, 0.9], 1),
        "sgd: scalars must have a number for each parameter, got 0": lambda: bucket.update("sgd", g, [], [], 1),
    }.items():
        with pytest.raises((ValueError, TypeError)) as raised:
            call()
        assert str(raised.value) == says
    assert not carrier.launches()
    assert all((carrier.got(each) == 1).all() for each in (x, y, z, g))


def test_a_bucket_on_another_card(card: Card) -> None:
    bucket = Bucket([Array(np.ones(4, np.float32))])
    with pytest.raises(ValueError, match="gather must have 4 elements on card 0, got 4 of float32 on card 1"):
        bucket.gather(Array(np.ones(4, np.float32), 1))
    assert not card.launches


def test_a_table_is_there_before_another_stream_reads_it(card: Card) -> None:
    x, flat = Array(np.ones(4, np.float32)), Array(np.zeros(4, np.float32))
    bucket = Bucket([x])
    assert card.waited_for == [7]
    with card.on("stream", 9):
        bucket.gather(flat)
    assert (card.waited_for, card.launches[-1].stream) == ([7], 9)


def test_no_elements_are_no_launch(carrier: Carrier) -> None:
    nothing = carrier.put_all([np.zeros(0, np.float32)] * 2)
    Bucket(nothing[:1]).gather(nothing[1])
    assert not carrier.launches()
