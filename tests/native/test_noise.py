"""Noise is a function of seed, stream, step and position, and is normal. (That the native ops have the bits of the
numpy bodies, for every instruction set, alignment and number of threads, is in tests/contract/ops/test_ops.py.)"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from loosestep import ops
from loosestep.ops import noise

N = 10**6
WHERE = {"seed": 2**63 + 11, "stream": 3, "step": 2**32 - 1}


def drawn(n: int, dtype: type = np.float32, scale: float = 1.0, **where: int) -> np.ndarray:
    out = np.empty(n, dtype)
    ops.normal(out, scale, **(WHERE | where))
    return out


@pytest.mark.parametrize(
    ("counter", "seed", "words"),
    [
        ([0] * 4, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([2**32 - 1] * 4, 2**64 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            0x299F31D0A4093822,
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_published_words(counter: list[int], seed: int, words: str) -> None:
    made = noise.philox([np.array([word], np.uint64) for word in counter], seed)
    assert " ".join(f"{int(word[0]):08x}" for word in made) == words


@pytest.mark.parametrize("start", [0, 1, 2, 3, 4093, 2**34 - 2, 2**63 - 1000])
def test_a_buffer_may_be_cut_anywhere(start: int) -> None:
    whole, parts = drawn(1000, start=start), np.empty(1000, np.float32)
    cuts = [0, 1, 6, 255, 256, 257, 511, 1000]
    for begin, end in pairwise(cuts):
        ops.normal(parts[begin:end], 1.0, **WHERE, start=start + begin)
    assert parts.tobytes() == whole.tobytes()


def test_both_types_hold_the_same_numbers() -> None:
    assert drawn(1001).astype(np.float64).tobytes() == drawn(1001, np.float64).tobytes()


def test_a_fused_step_is_a_step_and_its_noise() -> None:
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((2, 10_001)).astype(np.float32)
    fused = x.copy()
    ops.langevin(fused, g, 0.1, 0.3, **WHERE, start=5)
    ops.sgd(x, g, 0.1)
    ops.add_normal(x, 0.3, **WHERE, start=5)
    assert fused.tobytes() == x.tobytes()
    ops.axpy(x, drawn(10_001, start=5), -0.3)
    np.testing.assert_allclose(x, fused - np.float32(0.3) * drawn(10_001, start=5), rtol=0, atol=0)


def test_moments() -> None:
    x = drawn(N, np.float64)
    deviations = [1, math.sqrt(2), math.sqrt(15), math.sqrt(96)]  # of x, x^2, x^3, x^4, each of one number
    for power, (mean, deviation) in enumerate(zip([0, 1, 0, 3], deviations, strict=True), start=1):
        assert abs((x**power).mean() - mean) < 4 * deviation / math.sqrt(N)


def test_the_distance_of_kolmogorov_and_smirnov() -> None:
    x = np.sort(drawn(N // 4, np.float64))
    below = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in x])
    ranks = np.arange(x.size + 1) / x.size
    distance = max((ranks[1:] - below).max(), (below - ranks[:-1]).max())
    assert distance * math.sqrt(x.size) < 1.95  # exceeded once in a thousand seeds


@pytest.mark.parametrize("other", [{"seed": 12}, {"seed": 11}, {"stream": 4}, {"step": 0}, {"start": 1}])
def test_other_places_have_other_numbers(other: dict[str, int]) -> None:
    x, y = drawn(N, np.float64), drawn(N, np.float64, **other)
    assert abs((x * y).mean()) < 4 / math.sqrt(N)
    assert abs((x * x * y * y).mean() - 1) < 4 * math.sqrt(8 / N)


def test_the_tail_is_there() -> None:
    beyond = (np.abs(drawn(4 * N)) > 4).mean()
    chance = math.erfc(4 / math.sqrt(2))
    assert abs(beyond - chance) < 4 * math.sqrt(chance / (4 * N))


def test_the_polynomials_are_as_good_as_float32() -> None:
    words = np.random.default_rng(0).integers(0, 2**32, N, np.uint32)
    words[:99] = np.arange(99)
    turn = words.astype(np.float64) * (2 * np.pi / 2**32)
    cosine, sine = noise.around(words)
    assert np.abs(cosine - np.cos(turn)).max() < 1.2e-7
    assert np.abs(sine - np.sin(turn)).max() < 1.2e-7
    u = words.astype(np.float32) * np.float32(2.0**-32) + np.float32(2.0**-33)
    u, exact = u[u < 1], np.log(u[u < 1].astype(np.float64))
    assert np.abs(noise.logarithm(u) / exact - 1).max() < 2e-7
    assert noise.logarithm(np.ones(1, np.float32)) == 0


@pytest.mark.parametrize("rate", [0.05, 0.5, 1.0])
def test_langevin_has_its_stationary_variance(rate: float) -> None:
    """On x^2 / 2 with exact gradients: 1 / (1 - rate / 2)."""
    x = np.zeros(200_000, np.float32)
    for step in range(round(8 / rate)):
        ops.langevin(x, x.copy(), rate, math.sqrt(2 * rate), seed=5, stream=0, step=step)
    variance = 1 / (1 - rate / 2)
    assert abs(x.var(dtype=np.float64) / variance - 1) < 4 * math.sqrt(2 / x.size)


@pytest.mark.parametrize(
    ("where", "error", "says"),
    [
        ({"seed": -1}, ValueError, r"normal: seed must be a whole number from 0 to 18446744073709551615, got -1"),
        ({"seed": 2**64}, ValueError, "seed must be .* got 18446744073709551616"),
        ({"stream": 2**32}, ValueError, "stream must be a whole number from 0 to 4294967295, got 4294967296"),
        ({"step": 1.0}, TypeError, "step must be a whole number from 0 to 4294967295, got float"),
        ({"start": -1}, ValueError, "start must be a whole number from 0 to 9223372036854775807, got -1"),
    ],
)
def test_a_place_is_a_whole_number(where: dict[str, int], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        ops.normal(np.empty(2), 1.0, **(WHERE | where))
