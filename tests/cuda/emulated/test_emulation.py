"""What the emulation shows, on kernels that are right and on kernels that are wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.cuda.emulated.emulation import Library, emulate

each_order = pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])


@pytest.fixture(scope="module")
def sample() -> Library:
    return emulate("sample")


@each_order
@pytest.mark.parametrize("dtype", ["float", "double"])
def test_a_sum_by_shuffles_and_shared_memory(sample: Library, dtype: str, backwards: bool) -> None:
    kind: Any = {"float": np.float32, "double": np.float64}[dtype]
    x, out = np.arange(1000, dtype=kind), np.zeros(4, kind)
    sample.launch(f"sum<{dtype}>", (4,), (256,), [x, out, np.int32(1000)], backwards=backwards)
    np.testing.assert_array_equal(out, [x[i : i + 256].sum() for i in range(0, 1000, 256)])


@each_order
def test_shared_memory_of_the_launch(sample: Library, backwards: bool) -> None:
    x, out = np.arange(100, dtype=np.float32), np.zeros(100, np.float32)
    sample.launch("reverse", (1,), (100,), [x, out], shared=400, backwards=backwards)
    np.testing.assert_array_equal(out, x[::-1])


def test_a_missing_barrier_shows_backwards(sample: Library) -> None:
    x, out = np.ones(64, np.float32), np.zeros(64, np.float32)
    sample.launch("forgets_a_barrier", (1,), (64,), [x, out], shared=256)
    assert (out == 1).all()
    sample.launch("forgets_a_barrier", (1,), (64,), [x, out], shared=256, backwards=True)
    assert np.isnan(out[1:]).all()


def test_a_barrier_that_not_all_reach_is_an_error(sample: Library) -> None:
    with pytest.raises(RuntimeError, match="wait for others that do not come: thread 0 at __syncthreads"):
        sample.launch("half_wait", (1,), (32,), [np.zeros(32, np.float32)])


def test_a_lane_outside_of_the_mask_is_an_error(sample: Library) -> None:
    with pytest.raises(RuntimeError, match="__shfl_sync reads a lane that is not in its mask"):
        sample.launch("reads_a_stranger", (1,), (32,), [np.zeros(32, np.float32)])


def test_a_misaligned_vector_is_an_error(sample: Library) -> None:
    with pytest.raises(RuntimeError, match="not aligned as its type wants: thread 0, block 0"):
        sample.launch("misaligned", (1,), (1,), [np.zeros(64, np.float32)])
    x = np.arange(3, dtype=np.uint32)  # and the next launch is none the worse
    sample.launch("numbered", (3,), (1,), [x])
    np.testing.assert_array_equal(x, [0, 1000, 2000])


@each_order
def test_barriers_in_a_loop_and_votes(sample: Library, backwards: bool) -> None:
    out = np.zeros(1, np.uint32)
    sample.launch("nested", (2,), (96,), [out, np.int32(5)], backwards=backwards)
    assert out[0] == 2 * 3 * 5 * 16


@each_order
def test_three_dimensions(sample: Library, backwards: bool) -> None:
    out = np.zeros(2 * 3 * 4 * 24, np.uint32)
    sample.launch("numbered", (2, 3, 4), (4, 3, 2), [out], backwards=backwards)
    np.testing.assert_array_equal(out, [1000 * block + thread for block in range(24) for thread in range(24)])
