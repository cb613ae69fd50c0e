"""What every op promises, by discovery: native equals the numpy body bit for bit, whatever the hardware."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import numpy as np
import pytest
from tests.contract.ops.op_arguments import (
    LENGTHS,
    arguments,
    assert_same,
    buffer,
    buffers_of,
    dtypes,
    each_buffer,
    for_threads,
    isas,
    names,
    natives,
    parameters,
)

from loosestep import _core, ops


@names
def test_the_public_name_is_the_native_function(name: str) -> None:
    assert inspect.isbuiltin(getattr(ops, name))


@names
def test_signature_and_text_come_from_the_body(name: str) -> None:
    public = getattr(ops, name)
    assert list(inspect.signature(public).parameters) == list(parameters(name))
    assert public.__doc__ == inspect.getdoc(ops.specification[name])
    assert pickle.loads(pickle.dumps(public)) is public


@names
@dtypes
def test_native_equals_body_bit_for_bit(name: str, dtype: type) -> None:
    for n in (*LENGTHS, for_threads(name, dtype)):
        assert_same(name, natives(name), arguments(name, n, dtype, seed=n))


@names
@dtypes
def test_alignment_does_not_matter(name: str, dtype: type) -> None:
    for n, offset in product((17, 1000), (1, 3, 7)):
        assert_same(name, natives(name), arguments(name, n, dtype, offset, seed=n + offset))


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = _core.threads()
    _core.set_threads(count)
    try:
        yield
    finally:
        _core.set_threads(before)


@names
@dtypes
def test_the_number_of_threads_does_not_matter(name: str, dtype: type) -> None:
    run = {f"{n} threads": threads(n)(getattr(ops, name)) for n in (1, 3)}
    assert_same(name, run, arguments(name, for_threads(name, dtype), dtype))


@pytest.mark.parametrize("name", [name for name in ops.specification if "out" in parameters(name)])
@pytest.mark.parametrize(("dtype", "offset"), [(np.float32, 0), (np.float64, 5)])
def test_large_results_have_the_same_bits(name: str, dtype: type, offset: int) -> None:
    """They are stored past the caches."""
    n = 34 * 2**20 // (2 * np.dtype(dtype).itemsize) + 3
    assert_same(name, natives(name), arguments(name, n, dtype, offset))


@dtypes
def test_large_results_may_be_one_of_their_inputs(dtype: type) -> None:
    a, b = np.arange(6e6, dtype=dtype), np.ones(6 * 10**6, dtype)
    want = a - b
    ops.subtract(a, b, out=a)
    assert a.tobytes() == want.tobytes()
    ops.mean_of([a, b], out=b)
    assert b.tobytes() == ((want + 1) / dtype(2)).tobytes()


@names
@dtypes
def test_arrays_of_any_shape_are_flat(name: str, dtype: type) -> None:
    given = arguments(name, 24, dtype)
    flat = copy.deepcopy(given)
    shaped = {
        p: [x.reshape(2, 3, 4) for x in given[p]] if isinstance(given[p], list) else given[p].reshape(2, 3, 4)
        for p in each_buffer(name)
    }
    assert getattr(ops, name)(**(given | shaped)) == getattr(ops, name)(**flat)
    for got, want in zip(buffers_of(shaped), buffers_of(flat), strict=True):
        assert got.tobytes() == want.tobytes()


@names
def test_special_values_pass_through_as_in_the_body(name: str) -> None:
    given = arguments(name, 64, np.float32)
    for x in buffers_of(given):
        x[3], x[17], x[40] = np.inf, np.nan, 1e-42
    wanted = copy.deepcopy(given)
    getattr(ops, name)(**given)
    with np.errstate(invalid="ignore"):
        ops.specification[name](**wanted)
    for got, want in zip(buffers_of(given), buffers_of(wanted), strict=True):
        np.testing.assert_array_equal(got, want)


# What single ops promise beyond their bodies.


def test_out_may_be_a_buffer_that_is_read() -> None:
    x, y = np.arange(5.0), np.ones(5)
    ops.subtract(x, y, out=x)
    assert x.tolist() == [-1, 0, 1, 2, 3]
    ops.mean_of([x, y], out=y)
    assert y.tolist() == [0, 0.5, 1, 1.5, 2]


def test_a_buffer_of_weight_zero_is_not_read() -> None:
    x, bad, out = np.ones(4), np.full(4, np.nan), np.empty(4)
    ops.mean_of([bad, x, bad], out, weights=[0, 2, 0])
    assert out.tolist() == [1.0] * 4


@dtypes
def test_equal_weights_are_no_weights(dtype: type) -> None:
    rng = np.random.default_rng(1)
    buffers = [buffer(rng, 100, dtype) for _ in range(5)]
    plain, weighted = np.empty(100, dtype), np.empty(100, dtype)
    ops.mean_of(buffers, plain)
    ops.mean_of(buffers, weighted, weights=[0.1] * 5)
    assert plain.tobytes() == weighted.tobytes()


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ([1], "weights must be 2, one for each buffer, got 1"),
        ([0, 0], "weights must not all be 0"),
        ([1, -1], "weights must be finite and at least 0, got -1"),
        ([1, np.nan], "weights must be finite and at least 0, got nan"),
        ([1, np.inf], "weights must be finite and at least 0, got inf"),
    ],
)
def test_bad_weights_are_refused(weights: list[float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ops.mean_of([np.ones(2), np.ones(2)], np.ones(2), weights=weights)


def test_a_mean_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="mean_of: buffers must hold at least 1 array, got 0"):
        ops.mean_of([], np.ones(2))


@pytest.mark.parametrize("step", [0, -1])
def test_adam_counts_from_one(step: int) -> None:
    with pytest.raises(ValueError, match=f"adam: step must be at least 1, got {step}"):
        ops.adam(*(np.ones(2) for _ in range(4)), 0.1, 0.9, 0.999, 1e-8, step)


@isas
@pytest.mark.parametrize("where", [0, 31, 4096, 9999])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_element_is_found(isa: str, where: int, bad: float) -> None:
    x = np.full(10_000, 1e38, np.float32)
    assert _core.isa(isa).all_finite(x) is True
    x[where] = bad
    assert _core.isa(isa).all_finite(x) is False


def test_a_dot_product_is_as_good_as_a_double_one() -> None:
    x = np.full(10**6, 0.1, np.float32)
    assert ops.dot(x, x) == pytest.approx(10**6 * float(np.float32(0.1)) ** 2, rel=1e-12)
