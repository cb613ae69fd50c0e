"""Center: the elastic rule bit for bit, conservation under concurrency, versions, refusals."""

import random
import threading
import time

import numpy as np
import pytest
from tests.native.threads import on_threads

from loosestep import _core

DTYPES = [np.float32, np.float64]
LENGTHS = [0, 1, 15, 16, 17, 4096, 4097, 100_003]


def add(center, delta, rank=0):
    return center.push("axpy", (), (delta,), (1.0,), rank)


def values_of(center):
    out = np.empty(center.size, center.dtype)
    center.fetch(out)
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_elastic_is_the_formula_bit_for_bit(length, dtype):
    generator = np.random.default_rng(length)
    x, c = (generator.standard_normal(length).astype(dtype) for _ in range(2))
    center, before = _core.Center(c), x.copy()
    assert center.elastic(x, 0.3, rank=2) == 1
    d = dtype(0.3) * (before - c)
    assert x.tobytes() == (before - d).tobytes()
    assert values_of(center).tobytes() == (c + d).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_center_is_a_private_copy(dtype):
    initial = np.arange(10, dtype=dtype)
    center = _core.Center(initial)
    initial[:] = -1
    assert values_of(center).tolist() == list(range(10))
    assert (center.size, center.dtype, center.version) == (10, np.dtype(dtype).name, 0)


def test_versions_count_completed_moves():
    center, x = _core.Center(np.zeros(5)), np.ones(5)
    assert [add(center, x), center.elastic(x, 0.5), center.fetch(x), add(center, x)] == [1, 2, 2, 3]
    center.store(np.full(5, 7.0))
    assert center.version == 0
    assert values_of(center).tolist() == [7] * 5
    center.store(np.zeros(5), version=41)
    assert add(center, x) == 42


@pytest.mark.parametrize("chunk", [64, 16384, 1 << 20])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_concurrent_adds_of_small_integers_sum_exactly(workers, dtype, chunk):
    rounds, length = 20, 20_001
    center = _core.Center(np.zeros(length, dtype), chunk)

    def work(rank):
        delta = np.full(length, rank + 1, dtype)
        for turn in range(rounds):
            assert 1 <= add(center, delta, rank) <= rounds * workers
            time.sleep(random.Random(turn * 8 + rank).random() * 1e-4)

    on_threads(workers, work)
    assert center.version == rounds * workers
    assert set(values_of(center)) == {rounds * workers * (workers + 1) / 2}


@pytest.mark.parametrize("dtype", DTYPES)
def test_concurrent_elastic_moves_conserve_the_sum_exactly_where_arithmetic_is_exact(dtype):
    # Sixteen moves at rate 1/2 keep all values multiples of 2**-16 below 8: nothing is rounded or lost.
    workers, length = 4, 50_000
    generator = np.random.default_rng(0)
    xs = [generator.integers(-3, 4, length).astype(dtype) for _ in range(workers)]
    total = np.sum(xs, axis=0)
    center = _core.Center(np.zeros(length, dtype))
    on_threads(workers, lambda rank: [center.elastic(xs[rank], 0.5, rank) for _ in range(4)])
    assert np.array_equal(values_of(center) + np.sum(xs, axis=0), total)
    assert center.version == 16


def test_concurrent_elastic_moves_conserve_the_sum_up_to_rounding():
    workers, length, rounds = 8, 10_000, 100
    xs = [np.random.default_rng(rank).standard_normal(length) for rank in range(workers)]
    total = np.sum(xs, axis=0)
    center = _core.Center(np.zeros(length))
    on_threads(workers, lambda rank: [center.elastic(xs[rank], 0.1, rank) for _ in range(rounds)])
    assert np.allclose(values_of(center) + np.sum(xs, axis=0), total, rtol=0, atol=1e-12)


def test_no_reader_sees_a_torn_chunk():
    elements = 16384 // 8
    center = _core.Center(np.zeros(5 * elements))
    stop = threading.Event()

    def work(rank):
        if rank:
            for _ in range(300):
                add(center, np.ones(5 * elements), rank)
            stop.set()
            return
        out = np.empty(5 * elements)
        while not stop.is_set():
            version = center.fetch(out)
            chunks = out.reshape(5, elements)
            assert np.all(chunks == chunks[:, :1])
            assert np.all(chunks >= version)

    on_threads(2, work)


BAD = [
    ([0.0] * 4, TypeError, "must be a numpy array of float32 or float64, got list"),
    (np.zeros(4, int), TypeError, "must be a numpy array of float32 or float64, got int64"),
    (np.zeros(4), TypeError, "must be float32 like the center, got float64"),
    (np.zeros(5, np.float32), ValueError, r"must be of 4 elements \(as the center\), got 5"),
    (np.zeros(8, np.float32)[::2], ValueError, "must be C-contiguous, got a strided array"),
]


@pytest.mark.parametrize(("array", "kind", "sentence"), BAD)
@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda c, a: c.elastic(a, 0.5), "x"),
        (lambda c, a: c.fetch(a), "out"),
        (add, r"values\[0\]"),
        (lambda c, a: c.store(a), "values"),
    ],
)
def test_arrays_are_never_converted(call, argument, array, kind, sentence):
    center = _core.Center(np.zeros(4, np.float32))
    with pytest.raises(kind, match=f"{argument} {sentence}"):
        call(center, array)
    assert center.version == 0


def test_bad_arguments_are_named():
    center, x = _core.Center(np.zeros(4)), np.zeros(4)
    frozen = np.zeros(4)
    frozen.flags.writeable = False
    assert add(center, frozen) == 1
    for array, argument in [(center.fetch, "out"), (lambda a: center.elastic(a, 0.5), "x")]:
        with pytest.raises(ValueError, match=f"{argument} must be writable, got a read-only array"):
            array(frozen)
    with pytest.raises(ValueError, match="rate must be finite"):
        center.elastic(x, float("nan"))
    with pytest.raises(ValueError, match="rank must be at least 0, got -1"):
        add(center, x, -1)
    for chunk in (0, 100):
        with pytest.raises(ValueError, match="chunk must be a positive multiple of 64 bytes"):
            _core.Center(x, chunk)
    with pytest.raises(TypeError, match="initial must be a numpy array"):
        _core.Center([1.0])


def test_another_object_among_the_others_is_refused():
    center = _core.Center(np.zeros(4))
    with pytest.raises(TypeError, match=r"^others\[1\] must be a Center, got int$"):
        center.push("momentum", (_core.Center(np.zeros(4)), 3), (np.zeros(4),), (0.1, 0.9))


def test_a_list_may_change_while_its_centers_are_moved():
    """What a push was given stays alive in it, whatever another thread does to the lists meanwhile."""
    length, done = 200_000, threading.Event()
    center, lists = _core.Center(np.zeros(length)), ([], [])

    def change():
        while not done.is_set():
            for each in lists:
                each.clear()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(50):
            others, values = [_core.Center(np.zeros(length))], [np.ones(length)]
            lists = (others, values)
            try:
                center.push("momentum", others, values, (0.1, 0.9))
            except ValueError:  # emptied before it began
                continue
    finally:
        done.set()
        thread.join()
    assert center.version <= 50
