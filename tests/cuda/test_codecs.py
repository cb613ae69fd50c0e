"""Wire formats on a GPU: the words of the CPU, and the values that it makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.cuda.carriers import Carrier
from tests.cuda.emulated.stub import Array, Gpu
from tests.looped import looped

import loosestep as ls
from loosestep.codecs.base import Codec

CODECS = [
    *(ls.Sign(), ls.Float16(), ls.BFloat16(), ls.Float8(), ls.Float8("e5m2"), ls.E3M0()),
    *(ls.QSGD(), ls.QSGD(7, 64), ls.QSGD(1, 5000), ls.QSGD(3, 8)),
]
LONGEST: dict[Codec, int] = {ls.Sign(): 5003, ls.QSGD(1, 5000): 5003}
"""Values, of those that sum blocks of 4096."""
every_codec = pytest.mark.parametrize("codec", CODECS, ids=repr)


def values(count: int, dtype: Any) -> Any:
    """Of many sizes, some 0 and -0, some too small for a format."""
    rng = np.random.default_rng(count)
    x = rng.standard_normal(count) * 10.0 ** rng.integers(-9, 6, count) * (np.arange(count) % 7 != 0)
    return x.astype(dtype)


def there_and_back(codec: Codec, x: Any, wire: Any, out: Any) -> None:
    codec.encode(x, wire, (3, 1))
    codec.decode(wire, out)


@every_codec
@looped("dtype", [np.float32, np.float64])
def test_the_words_are_those_of_the_cpu(carrier: Carrier, codec: Codec, dtype: Any) -> None:
    for count, past in ((0, 0), (1, 0), (31, 1), (64, 0), (257, 1), (LONGEST.get(codec, 600), 3)):
        x, wire = values(count, dtype), np.full(codec.words(count) + 1, 1e300)
        given = [carrier.put(x, past), carrier.put(wire, past % 2), carrier.put(np.full_like(x, np.nan))]
        there_and_back(codec, *given)
        wanted = [x.copy(), wire, np.full_like(x, np.nan)]
        there_and_back(codec, *wanted)
        got = [carrier.got(each) for each in given]
        bits = np.unpackbits(got[1].view(np.uint8), bitorder="little")
        assert (bits == np.unpackbits(wire.view(np.uint8), bitorder="little"))[: codec.bits(count)].all(), count
        assert got[1][-1] == 1e300
        assert [got[0].tobytes(), got[2].tobytes()] == [wanted[0].tobytes(), wanted[2].tobytes()], count


@every_codec
def test_the_largest_and_the_least_numbers(carrier: Carrier, codec: Codec) -> None:
    limits = np.finfo(np.float32)
    x = np.tile(np.array([limits.max, -limits.max, limits.tiny, -limits.smallest_subnormal, 0], np.float32), 60)
    for part in (x, x[2:5].copy()):
        given, wanted = carrier.put_all([part, np.zeros(codec.words(part.size)), part * 0]), part * 0
        there_and_back(codec, *given)
        there_and_back(codec, part, np.zeros(codec.words(part.size)), wanted)
        assert carrier.got(given[2]).tobytes() == wanted.tobytes()


@every_codec
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(carrier: Carrier, codec: Codec, bad: float) -> None:
    for at in (0, 299):
        x = np.ones(300, np.float32)
        x[at] = bad
        with pytest.raises(ValueError, match="^what is sent must be finite, and holds an infinity or a NaN$"):
            codec.encode(*carrier.put_all([x, np.zeros(codec.words(300))]))


def test_words_of_another_kind_are_refused(gpu: Gpu) -> None:
    made: Any = Array
    x, wire = made(np.ones(300, np.float32)), made(np.zeros(40))
    with pytest.raises(ValueError, match="encode: wire must be words of at least 304 bytes, got 296"):
        ls.Float8().encode(x, wire[:37])
    with pytest.raises(TypeError, match="encode: wire must be float64, got float32"):
        ls.Float8().encode(x, made(np.zeros(400, np.float32)))
    with pytest.raises(TypeError, match="encode: wire must be on a GPU, like"):
        ls.Float8().encode(x, wire.held)
    with pytest.raises(ValueError, match="decode: wire must be on GPU 0 like the values, got one on GPU 1"):
        ls.Float8().decode(made(wire.held, 1), x)
    with pytest.raises(TypeError, match="x must be float32 or float64 on a GPU, got float16"):
        ls.Sign().encode(made(np.ones(300, np.float16)), wire)
    with pytest.raises(ValueError, match="encode: wire and the values must not overlap"):
        ls.BFloat16().encode(made(wire.held.view(np.float32)[:30]), wire)
    assert not gpu.launches
