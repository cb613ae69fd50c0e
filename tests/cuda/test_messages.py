"""What is sent in place of a buffer, as Python has it: the message and what stays add up to what was there."""

from __future__ import annotations

import numpy as np
import pytest
from tests.cuda.carriers import Carrier
from tests.cuda.making import KINDS, buffers, each_kind
from tests.cuda.test_codecs import largest

from loosestep import ops
from loosestep.cuda import codecs

N = 5000


@each_kind
def test_signs(carrier: Carrier, kind: str) -> None:
    (before,) = buffers(1, N, kind)
    x, out = carrier.put_all([before, before])
    message = codecs.take_signs(x)
    codecs.from_signs(message, out)
    assert message.scale == ops.dot(np.abs(before), np.ones_like(before)) / N
    scale = KINDS[kind](message.scale)
    sent = np.where(before < 0, -scale, scale)
    assert carrier.same([out, x], [sent, before - sent])


@each_kind
def test_bytes(carrier: Carrier, kind: str) -> None:
    (before,) = buffers(1, N, kind)
    x, out = carrier.put_all([before, before])
    codecs.from_bytes(codecs.take_bytes(x), out)
    assert carrier.same([x], [before - carrier.got(out)])
    assert np.abs(carrier.got(x)).max() <= np.abs(before).max() / 250


@pytest.mark.parametrize("k", [1, 77, N])
def test_the_largest(carrier: Carrier, k: int) -> None:
    (before,) = buffers(1, N, "float")
    x, want = carrier.put(before), largest(before, k)
    message = codecs.take_largest(x, k)
    assert carrier.got(message.places).tolist() == want.tolist()
    assert carrier.same([message.values], [before[want]])
    before[want] = 0
    assert carrier.same([x], [before])


@pytest.mark.parametrize("way", ["signs", "bytes", "largest"])
def test_what_was_left_out_is_sent_later(carrier: Carrier, way: str) -> None:
    """Error feedback: of a gradient that stays the same, the mean message comes as near as the last is small."""
    (g,) = buffers(1, N, "float")
    g /= np.abs(g).max()
    rest, part, sent, message = carrier.put_all([np.zeros_like(g), g, np.zeros_like(g), np.zeros_like(g)])
    for _ in range(5):
        ops.axpy(rest, part, 1.0)
        if way == "largest":
            taken = codecs.take_largest(rest, N // 4)
            dense = np.zeros_like(g)
            dense[carrier.got(taken.places)] = carrier.got(taken.values)
            message = carrier.put(dense)
        elif way == "signs":
            codecs.from_signs(codecs.take_signs(rest), message)
        else:
            codecs.from_bytes(codecs.take_bytes(rest), message)
        ops.axpy(sent, message, 1.0)
    np.testing.assert_allclose(carrier.got(sent) + carrier.got(rest), 5 * g, rtol=0, atol=1e-4)


def test_refused(carrier: Carrier) -> None:
    x, none = carrier.put(np.ones(4, np.float32)), carrier.put(np.ones(0, np.float32))
    for says, call in {
        "take_largest: k must be from 1 to 4 of float32, got 5 of float32": lambda: codecs.take_largest(x, 5),
        "take_signs: x must hold at least 1 element, got 0": lambda: codecs.take_signs(none),
        "take_bytes: x must be contiguous, got strides (8,) for (2,)": lambda: codecs.take_bytes(x[::2]),
        "take_signs: x must be on a card, like the op's other buffers, got a numpy.ndarray": (
            lambda: codecs.take_signs(np.ones(4, np.float32))
        ),
        "take_signs: x must be float32 or float64 on a card, got float16": (
            lambda: codecs.take_signs(carrier.put(np.ones(4, np.float16)))
        ),
    }.items():
        with pytest.raises((ValueError, TypeError)) as raised:
            call()
        assert str(raised.value) == says
    assert (carrier.got(x) == 1).all()
    assert not carrier.launches()
