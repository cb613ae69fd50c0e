"""What every wire format promises: what is decoded, the bits that it takes, and how far values move."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from tests.contract.discovery import cases

import loosestep as ls
from loosestep import codecs
from loosestep.codecs.base import Codec
from loosestep.foundation import buffers

COUNTS = (1, 2, 3, 7, 63, 64, 65, 130, 1001)
DTYPES = (np.float32, np.float64)
SEEDS = 100
every_codec = pytest.mark.parametrize("codec", cases(codecs, Codec))


def inputs(count: int, dtype: type) -> dict[str, Any]:
    """Values of one size and of many, few that are not 0, all alike, falling by powers."""
    rng = np.random.default_rng(count)
    normal = rng.standard_normal(count)
    found = {
        "normal": normal,
        "of many sizes": normal * 10.0 ** rng.integers(-6, 6, count),
        "one of many": np.eye(1, count, count // 2)[0] * -3.0,
        "one large": np.where(np.arange(count) == 0, 100.0, normal),
        "alike": np.full(count, -0.1),
        "powers": 1.5 ** -np.arange(min(count, 80.0)),
        "some are 0": normal * (np.arange(count) % 3 == 0),
    }
    return {name: x.astype(dtype) for name, x in found.items()}


def there_and_back(codec: Codec, x: Any, seed: Sequence[int] = (), fill: float = 1e300) -> Any:
    """Encode into words that held something else, decode into values that were something else."""
    wire, out = np.full(codec.words(x.size), fill), np.full_like(x, np.nan)
    codec.encode(x, wire, seed)
    codec.decode(wire, out)
    return out


def moved(codec: Codec, x: Any, decoded: Any) -> Any:
    """Return |decoded - x|^2 / |x|^2, for each row of what was decoded."""
    x = x.astype(float)
    return ((decoded - x) ** 2).sum(axis=-1) / (x**2).sum()


def seeds_of(codec: Codec) -> int:
    """One seed says all of a format that draws nothing."""
    x = inputs(1001, np.float64)["normal"]
    return SEEDS if there_and_back(codec, x, (1,)).tobytes() != there_and_back(codec, x, (2,)).tobytes() else 1


# --- the promises, as functions: below they are held against formats that break them -------------------------


def values_move_as_little_as_it_says(codec: Codec) -> None:
    seeds = seeds_of(codec)
    for dtype in DTYPES:
        for count in COUNTS:
            for name, x in inputs(count, dtype).items():
                decoded = np.array([there_and_back(codec, x, (seed,)) for seed in range(seeds)])
                assert decoded.dtype == dtype
                assert np.isfinite(decoded).all()
                found = moved(codec, x, decoded)
                slack = 1e-6 + 5 * found.std() / seeds**0.5
                assert found.mean() <= codec.error(x.size) + slack, f"{name}, {count} of {dtype.__name__}"
                if codec.unbiased:
                    gap = np.abs(decoded.mean(axis=0, dtype=float) - x)
                    spread = decoded.std(axis=0, dtype=float)  # of seeds in which something rare may not happen
                    spread += np.linalg.norm(x.astype(float)) * (codec.error(x.size) / x.size) ** 0.5
                    assert (gap <= 6 * spread / seeds**0.5).all(), f"{name}, {count} of {dtype.__name__}"


def it_is_unbiased_or_contracts(codec: Codec) -> None:
    assert codec.unbiased or all(codec.error(count) < 1 for count in COUNTS)


def it_takes_the_bits_that_it_says(codec: Codec) -> None:
    """Neither what lies behind its words nor the bits that are left over in the last one are touched or read."""
    for count in COUNTS:
        x, bits, words = inputs(count, np.float64)["normal"], codec.bits(count), codec.words(count)
        assert 64 * (words - 1) < bits <= 64 * words
        assert bits <= codec.bits(count + 1)
        room, out, other = np.full(words + 2, 1e300), np.empty_like(x), np.empty_like(x)
        codec.encode(x, room[:words], (1,))
        assert (room[words:] == 1e300).all()
        codec.decode(room[:words], out)
        raw = np.unpackbits(room[:words].view(np.uint8), bitorder="little")
        raw[bits:] ^= 1
        codec.decode(np.packbits(raw, bitorder="little").view(np.float64), other)
        assert other.tobytes() == out.tobytes()


def the_same_values_and_seed_give_the_same_words(codec: Codec) -> None:
    for dtype in DTYPES:
        for count in COUNTS:
            for x in inputs(count, dtype).values():
                before = x.copy()
                wire = np.zeros(codec.words(x.size))
                codec.encode(x, wire, (1, 2, 3))
                sent, out = wire.copy(), np.empty_like(x)
                codec.decode(wire, out)
                assert x.tobytes() == before.tobytes()
                assert wire.tobytes() == sent.tobytes()
                assert there_and_back(codec, x, (1, 2, 3), fill=-1.0).tobytes() == out.tobytes()


def zeros_stay(codec: Codec) -> None:
    for dtype in DTYPES:
        for count in (0, *COUNTS):
            assert (there_and_back(codec, np.zeros(count, dtype), (1,)) == 0).all()


def the_largest_and_least_numbers_stay_finite(codec: Codec) -> None:
    for dtype in DTYPES:
        most, least = np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal
        for values in (
            [most],
            [most, -most, least],
            [-least, least],
            [least, 1.0, most / 2, np.finfo(dtype).tiny],
        ):
            for seed in range(5):
                assert np.isfinite(there_and_back(codec, np.array(values * 33, dtype), (seed,))).all()


def what_is_not_finite_is_refused(codec: Codec) -> None:
    for dtype in DTYPES:
        for bad in (np.nan, np.inf, -np.inf):
            x = np.ones(65, dtype)
            x[64] = bad
            with pytest.raises(ValueError, match="^what is sent must be finite, and holds an infinity or a NaN$"):
                there_and_back(codec, x)


PROMISES = [
    values_move_as_little_as_it_says,
    it_is_unbiased_or_contracts,
    it_takes_the_bits_that_it_says,
    the_same_values_and_seed_give_the_same_words,
    zeros_stay,
    the_largest_and_least_numbers_stay_finite,
    what_is_not_finite_is_refused,
]
every_promise = pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)


@every_codec
@every_promise
@pytest.mark.filterwarnings("error")
def test_a_promise_is_kept(codec: Codec, promise: Callable[[Codec], None]) -> None:
    promise(codec)


@every_codec
def test_it_is_a_value(codec: Codec) -> None:
    assert eval(repr(codec), vars(ls).copy()) == codec
    assert pickle.loads(pickle.dumps(codec)) == codec


# --- formats of the test's own, whole and broken -------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Rounded(Codec):
    """QSGD in one byte a value, for the promises of formats that draw: |x| times a sign and a level, at random."""

    unbiased: ClassVar[bool] = True
    levels: int = 64

    def bits(self, count: int) -> int:
        return 64 + 8 * count

    def error(self, count: int) -> float:
        return min(count / self.levels**2, count**0.5 / self.levels)

    def encode(self, x: Any, wire: Any, seed: Sequence[int] = ()) -> None:
        self.check_finite(x)
        most = float(np.abs(x).max(initial=0))
        length = most * float(np.linalg.norm(x / most)) if most else 0.0
        length = min(length, float(np.finfo(x.dtype).max))
        scaled = np.minimum(np.abs(x) / (length or 1.0), 1.0) * self.levels
        drawn = np.random.default_rng(np.random.SeedSequence([*seed, 1])).random(x.size)
        wire[0] = length
        codes = wire[1:].view(np.int8)[: x.size]
        codes[:] = np.copysign(np.floor(scaled + drawn), x)

    def decode(self, wire: Any, out: Any) -> None:
        out[...] = wire[0] * (wire[1:].view(np.int8)[: out.size] / self.levels)


class Down(Rounded):
    """It says that it is unbiased, and rounds down."""

    def encode(self, x: Any, wire: Any, seed: Sequence[int] = ()) -> None:
        super().encode(x * 0.97, wire, seed)


class Short(Rounded):
    """It says a bit less than it reads."""

    def bits(self, count: int) -> int:
        return 63 + 8 * count


class Moody(Rounded):
    """It draws from no seed."""

    def encode(self, x: Any, wire: Any, seed: Sequence[int] = ()) -> None:
        super().encode(x, wire, np.random.default_rng().integers(0, 1 << 30, 2).tolist())


class Believing(Rounded):
    """It says that values move less than they do."""

    def error(self, count: int) -> float:
        return super().error(count) / 50


class Silent(Rounded):
    """It sends what is not finite."""

    def encode(self, x: Any, wire: Any, seed: Sequence[int] = ()) -> None:
        super().encode(np.nan_to_num(x), wire, seed)


class Bold(Rounded):
    """Neither unbiased nor contracting."""

    unbiased = False
    levels = 1


class Shifted(Rounded):
    """Nothing decodes to 0."""

    def decode(self, wire: Any, out: Any) -> None:
        super().decode(wire, out)
        out += 1e-9


class Overflowing(ls.E3M0):
    """Powers of two that are beyond the type."""

    def decode(self, wire: Any, out: Any) -> None:
        wide = np.empty(out.size)
        super().decode(wire, wide)
        out[...] = wide * 2.0


BROKEN = [
    (Down(), values_move_as_little_as_it_says),
    (Believing(), values_move_as_little_as_it_says),
    (Short(), it_takes_the_bits_that_it_says),
    (Moody(), the_same_values_and_seed_give_the_same_words),
    (Silent(), what_is_not_finite_is_refused),
    (Bold(levels=1), it_is_unbiased_or_contracts),
    (Shifted(), zeros_stay),
    (Overflowing(), the_largest_and_least_numbers_stay_finite),
]


@every_promise
@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
def test_a_format_that_draws_can_keep_them(promise: Callable[[Codec], None]) -> None:
    promise(Rounded())


@pytest.mark.parametrize(("codec", "broken"), BROKEN, ids=lambda value: getattr(value, "__name__", repr(value)))
@pytest.mark.filterwarnings("ignore:overflow")
def test_a_promise_that_is_broken_is_found(codec: Codec, broken: Callable[[Codec], None]) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        broken(codec)


def test_a_strategy_draws_anew_for_every_worker_and_round() -> None:
    seen: list[tuple[int, ...]] = []

    class Noted(Rounded):
        def encode(self, x: Any, wire: Any, seed: Sequence[int] = ()) -> None:
            seen.append(tuple(seed))
            super().encode(x, wire, seed)

    assert buffers.zeros(Noted().words(8), float).size == 2
    batches = lambda rank, size: iter([0.0] * 12)  # noqa: E731
    strategy = ls.StreamingDiLoCo(3, 2, codec=Noted())
    runs = [ls.run(strategy, lambda x, b: x - 1, np.zeros(8), batches, on=ls.Threads(2), seed=7) for _ in range(2)]
    assert len(seen) == 2 * 2 * 4
    assert len(set(seen)) == 2 * 4
    assert runs[0].params.tobytes() == runs[1].params.tobytes()
