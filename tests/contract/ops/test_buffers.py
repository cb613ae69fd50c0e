"""What a buffer promises: zeros, alignment, addresses that stay, memory that goes."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import numpy as np
import pytest

from loosestep.foundation import buffers

LARGE = (2 << 20) // 4
makers = pytest.mark.parametrize("make", [buffers.zeros, buffers.empty], ids=["zeros", "empty"])
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@makers
@dtypes
@pytest.mark.parametrize("n", [0, 1, 15, 17, LARGE - 1, LARGE, LARGE + 1, 3 * LARGE + 5])
def test_buffers_are_flat_zeroed_writable_and_aligned(make, dtype, n) -> None:
    x = make(n, dtype)
    assert (x.shape, x.dtype) == ((n,), dtype)
    assert x.flags.c_contiguous
    assert x.flags.writeable
    assert x.ctypes.data % 64 == 0
    assert not x.any()
    x[...] = np.arange(n)
    assert (x == np.arange(n, dtype=dtype)).all()


def test_large_buffers_begin_at_different_places_of_their_pages() -> None:
    made = [buffers.zeros(LARGE) for _ in range(16)]
    places = [x.ctypes.data % (2 << 20) for x in made]
    assert len({place % 4096 // 64 for place in places}) == 16
    assert max(places) < 32 << 10


def test_like_takes_length_and_type() -> None:
    x = buffers.like(np.ones((3, 4)))
    assert (x.shape, x.dtype, x.any()) == ((12,), np.float64, False)


@pytest.mark.parametrize("dtype", ["float16", "int32", ">f4", "complex128"])
def test_other_types_are_refused(dtype) -> None:
    with pytest.raises(TypeError, match=f"dtype must be float32 or float64, got {dtype}"):
        buffers.zeros(3, dtype)


def test_negative_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="n must be at least 0, got -1"):
        buffers.zeros(-1)


def test_a_view_keeps_the_memory() -> None:
    view = buffers.zeros(4 * LARGE)[10:20]
    gc.collect()
    view[...] = 1
    assert view.sum() == 10


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_goes_with_the_array() -> None:
    x = buffers.zeros(32 * LARGE)
    held = resident()
    del x
    assert resident() < held - 48 * (1 << 20)


# Several arrays in one.


def test_flat_lays_arrays_out_in_aligned_slots() -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.random(shape).astype(np.float32) for shape in [(3, 5), (), (16,), (0,), (2, 2, 2)]]
    buffer, views = buffers.flat(arrays)
    assert buffer.size == 16 * (1 + 1 + 1 + 0 + 1)
    for view, array in zip(views, arrays, strict=True):
        assert view.ctypes.data % 64 == 0
        assert view.flags.c_contiguous
        np.testing.assert_array_equal(view, array, strict=True)
    assert buffer.sum(dtype=np.float64) == pytest.approx(sum(a.sum(dtype=np.float64) for a in arrays))


def test_views_and_buffer_are_one_memory() -> None:
    original = np.zeros((2, 3))
    buffer, (view,) = buffers.flat([original])
    buffer[...] = 7
    assert (view == 7).all()
    view[1, 2] = 9
    assert buffer[5] == 9
    assert not original.any()


def test_strided_arrays_are_laid_out_by_value() -> None:
    source = np.arange(12.0).reshape(3, 4).T
    _, (view,) = buffers.flat([source])
    np.testing.assert_array_equal(view, source)
    assert view.flags.c_contiguous


def test_flat_refuses_nothing_and_mixtures() -> None:
    with pytest.raises(ValueError, match="arrays must hold at least 1 array, got 0"):
        buffers.flat([])
    with pytest.raises(TypeError, match="arrays must be of one type, got float32, float64"):
        buffers.flat([np.ones(1), np.ones(1, np.float32)])
