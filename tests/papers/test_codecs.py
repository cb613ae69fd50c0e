"""Wire formats: what becomes of a value, how long the wire is; four bits under Streaming DiLoCo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.contract.test_resuming import CRASHES, check_crashes
from tests.papers.problems import EQUAL, Array, difference, in_turn, quadratics, trace
from tests.papers.test_streaming_diloco import streaming

import loosestep as ls
from loosestep.foundation import buffers

PROBLEM = quadratics(4, 6)


def there_and_back(x: Any) -> Any:
    codec, out = ls.E3M0(), np.full_like(x, 7.0)
    wire = buffers.zeros(codec.words(x.size), np.float64)
    codec.encode(x, wire)
    codec.decode(wire, out)
    return out


def nearest(x: Array) -> Array:
    """By trying all: of a block of 64, the nearest of 0 and +-2^(top + c - 7); from the middle on, the larger."""
    out = []
    for block in (x[start : start + 64] for start in range(0, x.size, 64)):
        top = np.floor(np.log2(np.abs(block).max() / 0.75)) if block.any() else 0.0
        levels = np.array([2.0 ** (top + c - 7) for c in range(7, 0, -1)] + [0.0])
        out += [np.sign(v) * levels[np.argmin(np.abs(levels - abs(v)))] for v in block]
    return np.array(out)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 1000])
def test_every_value_becomes_the_nearest(count: int, dtype: type) -> None:
    rng = np.random.default_rng(count)
    x = (rng.standard_normal(count) * 10.0 ** rng.integers(-9, 9, count)).astype(dtype)
    assert (there_and_back(x) == nearest(x.astype(float))).all()


def test_powers_of_two_of_seven_octaves_stay_and_middles_go_up() -> None:
    x = np.array([(-2.0) ** -k for k in range(7)] + [0.0])
    assert (there_and_back(x) == x).all()
    assert there_and_back(np.array([3.0, 1.5, 0.75, 4.0 / 128, 3.99 / 128])).tolist() == [
        4.0,
        2.0,
        1.0,
        4 / 64,
        0.0,
    ]
    assert (there_and_back(np.zeros(70)) == 0).all()


def test_values_change_by_a_third_at_most() -> None:
    x = np.random.default_rng(0).uniform(1 / 32, 1, 4096)
    x[::64] = 1.0
    assert np.abs(there_and_back(x) / x - 1).max() <= 1 / 3 + 1e-15


@pytest.mark.parametrize(("count", "nbytes"), [(64, 40), (1, 8), (10**6, 531_256)])
def test_the_wire_is_as_long_as_it_says(count: int, nbytes: int) -> None:
    assert 8 * ls.E3M0().words(count) == nbytes


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="^what is sent must be finite, and holds an infinity or a NaN$"):
        there_and_back(np.array([1.0, np.nan]))


@pytest.mark.parametrize("on", [in_turn(4), ls.Threads(4)], ids=repr)
@pytest.mark.parametrize(("fragments", "delay"), [(1, 0), (2, 1), (3, 2)])
def test_streaming_diloco_with_four_bits_follows_its_recursion(fragments: int, delay: int, on: ls.Threads) -> None:
    strategy = ls.StreamingDiLoCo(4, fragments, delay, 0.5, 0.7, 0.9, ls.E3M0())
    found = trace(strategy, PROBLEM, 24, on=on)
    assert difference(found.replicas, streaming(fragments, 4, delay, 24, 0.5, 0.7, 0.9, rounded=nearest)) < EQUAL


def test_what_four_bits_send() -> None:
    """To every other worker a weight, and 3 values of half a byte with an exponent: 2 words."""
    found = trace(ls.StreamingDiLoCo(4, 2, codec=ls.E3M0()), PROBLEM, 24).result
    assert (found.bytes_sent, found.messages) == (6 * 3 * 2 * 8, 6 * 3)
    large = quadratics(4, 4096)
    plain, coded = (
        trace(ls.StreamingDiLoCo(4, 2, codec=c), large, 8).result.bytes_sent for c in (None, ls.E3M0())
    )
    assert coded / plain == pytest.approx(3 * (4 + 16 / 64) / (2 * 3 / 4 * 64), rel=0.01)


def test_replicas_that_merge_all_stay_alike_and_weights_count() -> None:
    """keep 0 and a fragment at once: workers agree to the bit; one without data counts for nothing."""
    batches = lambda rank, size: iter([rank] * (24 if rank < 3 else 0))  # noqa: E731
    strategy = ls.StreamingDiLoCo(4, 1, 0, 0.0, 0.7, 0.9, ls.E3M0())
    four = ls.run(strategy, PROBLEM.gradient, PROBLEM.start, batches, on=ls.Simulated(4))
    three = ls.run(strategy, PROBLEM.gradient, PROBLEM.start, batches, on=ls.Simulated(3))
    assert all((worker.params == four.params).all() for worker in four.workers)
    assert (four.workers[0].params == three.workers[0].params).all()


def test_what_is_under_way_in_four_bits_outlives_a_crash(tmp_path: Path) -> None:
    check_crashes(ls.StreamingDiLoCo(3, 2, codec=ls.E3M0()), ls.Threads(3), tmp_path, CRASHES[::4])
