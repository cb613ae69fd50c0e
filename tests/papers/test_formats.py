"""Wire formats against their formulas in numpy; the same words by every instruction set and number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.contract.discovery import discover
from tests.papers.problems import Array

import loosestep as ls
from loosestep import _core, codecs
from loosestep.codecs.base import Codec

CODECS = [kind.example() for kind in discover(codecs, Codec)] + [
    *(ls.Float8("e5m2"), ls.QSGD(7, 64), ls.QSGD(1), ls.Bins(4), ls.Bins(3), ls.TopK(0.3, width=16)),
    *(ls.ChunkedTopK(5, 24, ls.Bins()), ls.ChunkedTopK(7, 33, width=64), ls.PowerSGD(3, 17)),
]
DTYPES = [np.float32, np.float64]


@pytest.fixture
def every_set() -> Iterator[list[str]]:
    yield _core.isas()
    _core.codecs.use(_core.isas()[0])


def values(count: int, dtype: Any = np.float64) -> Any:
    rng = np.random.default_rng(count)
    return (rng.standard_normal(count) * 10.0 ** rng.integers(-3, 4, count)).astype(dtype)


def words(codec: Codec, x: Any, seed: int = 1) -> Any:
    wire = np.zeros(codec.words(x.size))
    codec.encode(x, wire, (seed,))
    return wire


def decoded(codec: Codec, x: Any, seed: int = 1) -> Any:
    out = np.full_like(x, np.nan)
    codec.decode(words(codec, x, seed), out)
    return out


# --- the same words everywhere -------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_every_instruction_set_gives_the_same_words(codec: Codec, every_set: list[str]) -> None:
    for dtype in DTYPES:
        for x in (*(values(count, dtype) for count in (1, 31, 257, 5000)), limits(dtype, 1), limits(dtype, 2)):
            found = set()
            for name in every_set:
                _core.codecs.use(name)
                found.add((words(codec, x).tobytes(), decoded(codec, x).tobytes()))
            assert len(found) == 1, f"{x.size} of {dtype.__name__}"


def limits(dtype: Any, first: int) -> Any:
    """The largest numbers beside the least, and these alone."""
    kind = np.finfo(dtype)
    return np.tile(np.array([kind.max, -kind.tiny, kind.smallest_subnormal, 0, -0.0][first - 1 :], dtype), 256)


STREAMED = [ls.Float16(), ls.BFloat16(), ls.Float8(), ls.Float8("e5m2"), ls.E3M0()]


@pytest.mark.parametrize("codec", STREAMED, ids=repr)
def test_messages_that_no_cache_holds_are_those_of_their_parts(codec: Codec) -> None:
    """They are stored past the caches, a line at a time, wherever they begin."""
    part = values(1 << 16, np.float32)
    x, out = np.resize(part, (4 << 20) + 77), np.empty((4 << 20) + 77, np.float32)
    wanted = np.resize(decoded(codec, part), x.size)
    wire = np.zeros(codec.words(x.size) + 9)
    for begin in (0, 1, 8):
        codec.encode(x, wire[begin : begin + codec.words(x.size)])
        codec.decode(wire[begin:], out)
        assert (out[: 4 << 20] == wanted[: 4 << 20]).all()
        assert (out[4 << 20 :] == decoded(codec, part[:77])).all()


@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_one_thread_and_several_give_the_same_words(codec: Codec) -> None:
    x = values((1 << 19) + 77, np.float32)
    before, found = _core.threads(), set()
    for threads in (1, 3):
        _core.set_threads(threads)
        found.add((words(codec, x).tobytes(), decoded(codec, x).tobytes()))
    _core.set_threads(before)
    assert len(found) == 1


@pytest.mark.parametrize("codec", CODECS, ids=repr)
@pytest.mark.parametrize("dtype", DTYPES)
def test_adding_a_message_is_adding_what_it_decodes_to(codec: Codec, dtype: Any) -> None:
    x, total = values(300, dtype), values(301, dtype)[:300].copy()
    one, room = decoded(codec, x), np.empty_like(x)
    wanted = total + dtype(0.3) * one
    codec.add(words(codec, x), total, 0.3, room)
    assert total.tobytes() == wanted.tobytes()
    assert codec.norm(words(codec, x), room) == pytest.approx(np.linalg.norm(one.astype(float)), rel=1e-6)
    weights = np.zeros_like(x)
    codec.count(words(codec, x), weights, 2.0)
    assert (weights[one != 0] == 2).all()
    if isinstance(codec, (ls.TopK, ls.ChunkedTopK)):
        assert (weights == 2).sum() == codec.kept(300)


# --- formulas ------------------------------------------------------------------------------------------------


def scaled(x: Array, top: int) -> tuple[Array, Array]:
    """Blocks of 256 times a power of two that brings their largest to 2^(top - 1) or more; and the powers."""
    factors = np.ones_like(x)
    for at in range(0, x.size, 256):
        factors[at : at + 256] = 2.0 ** (top - np.frexp(np.abs(x[at : at + 256]).max())[1])
    return x * factors, factors


def nearest(x: Array, exponent: int, fraction: int) -> Array:
    """To the nearest of a format's numbers, ties to even, subnormal ones too."""
    bias = 2 ** (exponent - 1) - 1
    exponents = np.maximum(np.frexp(x)[1] - 1, 1 - bias)
    unit = 2.0 ** (exponents - fraction)
    return np.rint(x / unit) * unit


@pytest.mark.parametrize("count", [1, 255, 256, 1000])
@pytest.mark.parametrize(
    ("codec", "exponent", "fraction", "top"),
    [(ls.Float16(), 5, 10, 15), (ls.Float8(), 4, 3, 8), (ls.Float8("e5m2"), 5, 2, 15)],
    ids=repr,
)
def test_floats_are_rounded_to_the_nearest(
    codec: Codec, exponent: int, fraction: int, top: int, count: int
) -> None:
    x = values(count, np.float32).astype(float)
    small, factors = scaled(x, top)
    assert (decoded(codec, x) == nearest(small, exponent, fraction) / factors).all()


def test_binary16_is_numpys() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, 1000).astype(np.float32) * np.float32(2.0**14.9)
    assert (decoded(ls.Float16(), x) == x.astype(np.float16).astype(np.float32)).all()


def test_bfloat16_is_the_upper_half() -> None:
    x = values(1000, np.float32)
    bits = x.view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + (bits >> np.uint64(16) & np.uint64(1))) >> np.uint64(16)).astype(np.uint32)
    assert (decoded(ls.BFloat16(), x) == (rounded << np.uint32(16)).view(np.float32)).all()


def test_signs_have_the_mean_size() -> None:
    x = values(1001)
    assert (decoded(ls.Sign(), x) == np.copysign(np.float32(np.abs(x).mean()), x)).all()


@pytest.mark.parametrize("count", [1, 7, 100, 4097, 300_000])
def test_the_largest_stay_and_of_equal_ones_the_first(count: int) -> None:
    x = np.round(values(count) * 4) / 4  # many ties
    codec, wanted = ls.TopK(0.02, width=64), np.zeros(count)
    kept = np.argsort(-np.abs(x), kind="stable")[: codec.kept(count)]
    wanted[kept] = x[kept]
    assert (decoded(codec, x) == wanted).all()


def steep(count: int) -> Any:
    return np.repeat([1.0, -1.0, 1e-3, 50.0], count // 4)


@pytest.mark.parametrize("make", [values, steep, np.zeros])
def test_chunks_keep_their_largest(make: Any) -> None:
    """Also where one chunk's sizes say nothing of the next one's."""
    x = make(64 * 200)
    wanted = np.zeros_like(x)
    for at in range(0, x.size, 64):
        for i in np.argsort(-np.abs(x[at : at + 64]), kind="stable")[:5]:
            wanted[at + i] = x[at + i]
    assert (decoded(ls.ChunkedTopK(5, 64, width=64), x) == wanted).all()


def test_random_places_are_alike_and_one_of_each_stretch() -> None:
    codec, x = ls.RandomK(0.2), np.ones(50)
    drawn = np.array([decoded(codec, x, seed) for seed in range(4000)])
    assert (drawn.reshape(4000, 10, 5).sum(axis=2) == 1).all()
    assert np.abs(drawn.mean(axis=0) - 0.2).max() < 5 * (0.2 * 0.8 / 4000) ** 0.5


def test_qsgd_is_one_of_two_levels_unbiased_and_as_near_as_the_bound() -> None:
    x, codec = values(64), ls.QSGD(7, 64)
    length = float(np.float32(np.linalg.norm(x)))
    found = np.array([decoded(codec, x, seed) for seed in range(4000)])
    levels = found * 7 / length
    assert np.abs(levels - np.rint(levels)).max() < 1e-6
    assert (np.abs(levels - x * 7 / length) < 1).all()
    spread = found.std(axis=0) + length / 7 / 4000**0.5
    assert (np.abs(found.mean(axis=0) - x) < 5 * spread / 4000**0.5).all()
    assert ((found - x) ** 2).sum(axis=1).mean() <= min(64 / 49, 8 / 7) * (x**2).sum()


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_bins_are_those_of_the_formula_and_keep_the_sum(bits: int) -> None:
    x, bins = np.random.default_rng(bits).standard_normal(3000) + 0.3, 2**bits
    place = np.clip(np.rint((x - x.mean()) / (6 * x.std() / bins) + bins / 2), 0, bins - 1)
    wanted = np.zeros_like(x)
    for each in np.unique(place):
        wanted[place == each] = np.float32(x[place == each].mean())
    found = decoded(ls.Bins(bits), x)
    assert np.abs(found - wanted).max() < 1e-6
    assert found.sum() == pytest.approx(x.sum(), rel=1e-6)


@pytest.mark.parametrize(("rank", "shape"), [(1, (5, 3)), (2, (7, 7)), (3, (3, 9))])
def test_a_matrix_of_low_rank_stays(rank: int, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(rank)
    x = (rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, shape[1]))).reshape(-1)
    codec = ls.PowerSGD(rank, width=64).shaped(shape)
    assert np.abs(decoded(codec, x) - x).max() < 1e-10
    full = ls.PowerSGD(min(shape), width=64).shaped(shape)
    y = rng.standard_normal(x.size)
    assert np.abs(decoded(full, y) - y).max() < 1e-10


@pytest.mark.parametrize(
    ("codec", "count", "bits"),
    [
        (ls.Sign(), 1000, 1032),
        (ls.Float8(), 1000, 8064),
        (ls.Float16(), 1000, 16064),
        (ls.BFloat16(), 1000, 16000),
        (ls.QSGD(), 1000, 8064),
        (ls.QSGD(1), 1000, 2064),
        (ls.Bins(), 1000, 2128),
        (ls.TopK(), 1000, 420),
        (ls.ChunkedTopK(), 8192, 128 * 44),
        (ls.ChunkedTopK(values=ls.Bins()), 8192, 384 + 128 * 12),
        (ls.RandomK(), 1000, 64 + 320),
        (ls.PowerSGD(), 1000, 32 * 2 * (33 + 31)),
    ],
    ids=repr,
)
def test_a_message_has_the_bits_of_its_formula(codec: Codec, count: int, bits: int) -> None:
    assert codec.bits(count) == bits


# --- what is wrong is refused --------------------------------------------------------------------------------


def test_an_index_beyond_its_chunk_is_refused() -> None:
    codec = ls.ChunkedTopK(2, 24)
    wire = words(codec, values(24))
    wire.view(np.uint8)[8] |= 0b11000  # index 24 or more
    for use in (
        lambda: codec.decode(wire, np.zeros(24)),
        lambda: codec.add(wire, np.zeros(24), 1.0, np.zeros(24)),
    ):
        with pytest.raises(ValueError, match="^the message holds an index that is beyond its chunk$"):
            use()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ls.TopK(0), "share must be above 0 and finite, got 0"),
        (lambda: ls.TopK(1.5), "share must be at most 1, got 1.5"),
        (lambda: ls.TopK(0.1, width=8), "width must be one of 16, 32, 64, got 8"),
        (lambda: ls.ChunkedTopK(9, 8), "keep must be in 1 .. 8, got 9"),
        (lambda: ls.QSGD(200), "levels must be in 1 .. 127, got 200"),
        (lambda: ls.QSGD(bucket=12), "bucket must be a multiple of 8, got 12"),
        (lambda: ls.Float8("e3m4"), "format must be one of 'e4m3', 'e5m2', got 'e3m4'"),
        (lambda: ls.Bins(1), "bits_each must be in 2 .. 8, got 1"),
        (lambda: ls.PowerSGD(0), "rank must be at least 1, got 0"),
    ],
)
def test_bad_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + message.replace("(", "\\(") + "$"):
        make()


def test_words_and_values_of_another_kind_are_refused() -> None:
    x = values(64)
    with pytest.raises(ValueError, match="^wire must be words of at least 12 bytes, got 8$"):
        ls.Sign().encode(x, np.zeros(1))
    with pytest.raises(TypeError, match="^wire must be float64 like all words, got float32$"):
        ls.Sign().encode(x, np.zeros(8, np.float32))
    with pytest.raises(TypeError, match="^x must be a numpy array of float32 or float64, got int64$"):
        ls.Sign().encode(np.arange(64), np.zeros(8))
    with pytest.raises(ValueError, match="^out must be "):
        ls.Sign().decode(np.zeros(8), np.broadcast_to(0.0, 64))
