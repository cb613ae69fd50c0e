"""Ops that are no rule, on buffers of a GPU: the CPU's bits and sentences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.cuda.carriers import Carrier, ones
from tests.cuda.emulated.stub import Array, Gpu
from tests.cuda.making import KINDS, buffers, each_kind
from tests.looped import looped

from loosestep import ops

SIZES = [0, 1, 4097, 20_000]


@each_kind
@looped("n", SIZES)
def test_reductions(carrier: Carrier, kind: str, n: int) -> None:
    x, y = buffers(2, n, kind)
    a, b = carrier.put_all([x, y], 1)
    assert ops.dot(a, b) == ops.dot(x, y)
    assert ops.norm(a) == ops.norm(x)
    starts = [0, 0, n // 3, n]
    assert ops.norms(a, starts) == ops.norms(x, starts)
    assert ops.norms(a, [n]) == []


@looped("n", SIZES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@each_kind
def test_one_bad_element_is_found(carrier: Carrier, n: int, bad: float, kind: str) -> None:
    x = np.full(n, 1e38, KINDS[kind])
    assert ops.all_finite(carrier.put(x)) is True
    if n:
        x[n // 2] = bad
        assert ops.all_finite(carrier.put(x)) is False


@pytest.mark.parametrize("typestr", ["<f2", "<V2"])
def test_norms_of_two_bytes(gpu: Gpu, typestr: str) -> None:
    numbers = np.array([1.5, -2, 3, 0.25], np.float32)
    held = numbers.astype(np.float16) if typestr == "<f2" else (numbers.view(np.uint32) >> 16).astype(np.uint16)
    assert ops.norm(Array(held, typestr=typestr)) == ops.norm(numbers)


@each_kind
@looped("n", SIZES)
@looped("offset", [0, 1])
@pytest.mark.parametrize("start", [0, 6, 2**40])
def test_noise(carrier: Carrier, kind: str, n: int, offset: int, start: int) -> None:
    place = (2**64 - 1, 3, 2**32 - 1, start)
    for op, scalars in {"normal": (0.3,), "add_normal": (0.3,), "langevin": (0.1, 0.3)}.items():
        wanted = buffers(len(scalars), n, kind)
        given = carrier.put_all(wanted, offset)
        getattr(ops, op)(*given, *scalars, *place)
        getattr(ops, op)(*wanted, *scalars, *place)
        assert carrier.same(given, wanted)


def test_a_start_may_be_left_out(carrier: Carrier) -> None:
    y = np.zeros(9)
    x = carrier.put(y)
    ops.normal(x, 1.0, seed=1, stream=2, step=3)
    ops.normal(y, 1.0, seed=1, stream=2, step=3)
    assert carrier.same([x], [y])


@each_kind
@looped("n", SIZES)
@looped("offset", [0, 1])
@pytest.mark.parametrize("many", [1, 8, 13])
def test_replicas(carrier: Carrier, kind: str, n: int, offset: int, many: int) -> None:
    wanted = buffers(many + 1, n, kind)
    given = carrier.put_all(wanted, offset)
    weights = np.random.default_rng(many).random((many, many)).tolist()
    for *replicas, center in (given, wanted):
        ops.elastic_all(replicas, center, 0.3)
        ops.mix(replicas, weights)
    assert carrier.same(given, wanted)


WEIGHTS = [None, [0.1] * 13, [0.3, 0.0, 1.7, 2, 0, 0, 1, 1, 1, 1e-3, 5, 0.5, 0.0]]


@each_kind
@looped("n", SIZES)
@looped("offset", [0, 1])
@pytest.mark.parametrize("weights", WEIGHTS, ids=["none", "equal", "some 0"])
def test_means_and_sums(carrier: Carrier, kind: str, n: int, offset: int, weights: list[float] | None) -> None:
    wanted = buffers(15, n, kind)
    given = carrier.put_all(wanted, offset)
    for *terms, mean, total in (given, wanted):
        ops.mean_of(terms, mean, weights)
        ops.weighted_sum(terms, weights or [1.0] * 13, total)
        ops.mean_of(terms, terms[3])
    assert carrier.same(given, wanted)


REFUSED: dict[str, tuple[Any, type[Exception]]] = {
    "norms: starts must not decrease, starts[2] does": (lambda x, y: ops.norms(x, [0, 3, 2]), ValueError),
    "norms: starts[1] must be a whole number from 0 to 4, got 5": (lambda x, y: ops.norms(x, [0, 5]), ValueError),
    "normal: seed must be a whole number from 0 to 18446744073709551615, got -1": (
        lambda x, y: ops.normal(x, 1.0, -1, 0, 0),
        ValueError,
    ),
    "elastic_all: replicas[0] and c must not overlap": (lambda x, y: ops.elastic_all([x], x, 0.1), ValueError),
    "mix: replicas[0] and replicas[1] must not overlap": (
        lambda x, y: ops.mix([x, x], [[1, 0], [0, 1]]),
        ValueError,
    ),
    "mix: weights must be 2 rows of 2, one for each replica, got rows of [2]": (
        lambda x, y: ops.mix([x, y], [[1, 0]]),
        ValueError,
    ),
    "elastic_all: replicas must hold 1 to 64 arrays on a GPU, got 0": (
        lambda x, y: ops.elastic_all([], x, 0.1),
        ValueError,
    ),
    "dot: y must be on a GPU": (lambda x, y: ops.dot(x, np.ones(4, np.float32)), TypeError),
    "mix: replicas[1] must be on a GPU": (
        lambda x, y: ops.mix([x, np.ones(4, np.float32)], [[1, 0], [0, 1]]),
        TypeError,
    ),
    "mean_of: buffers[0] must be on a GPU": (lambda x, y: ops.mean_of([np.ones(4, np.float32)], x), TypeError),
    "norm: x must be contiguous, got strides (8,) for (2,)": (lambda x, y: ops.norm(x[::2]), ValueError),
    "elastic_all: replicas[0] must be contiguous": (
        lambda x, y: ops.elastic_all([x[::2]], y[:2], 1.0),
        ValueError,
    ),
    "langevin: g must be contiguous": (lambda x, y: ops.langevin(x[:2], y[::2], 1.0, 1.0, 1, 2, 3), ValueError),
    "weighted_sum: buffers[1] and out must not overlap": (
        lambda x, y: ops.weighted_sum([y[:3], x[:3]], [1.0, 1.0], x[1:]),
        ValueError,
    ),
}


@pytest.mark.parametrize("says", REFUSED)
def test_what_is_refused_and_changes_nothing(carrier: Carrier, says: str) -> None:
    call, error = REFUSED[says]
    x, y = ones(carrier, 2)
    with pytest.raises(error) as raised:
        call(x, y)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    assert all((carrier.got(each) == 1).all() for each in (x, y))
    assert not carrier.launches()


MISTAKEN: dict[str, Any] = {
    "elastic_all: rate must be a number, got str": lambda x, y: ops.elastic_all([x], y, "0.1"),
    "elastic_all: rate is missing": lambda x, y: ops.elastic_all([x], y),
    "normal: scale must be a number, got str": lambda x, y: ops.normal(x, "1.0", 1, 2, 3),
    "langevin: rate must be a number, got NoneType": lambda x, y: ops.langevin(x, y, None, 1.0, 1, 2, 3),
    "normal: step is missing": lambda x, y: ops.normal(x, 1.0, 1, 2),
    "normal: seed must be a whole number from 0 to 18446744073709551615, got float": (
        lambda x, y: ops.normal(x, 1.0, 1.5, 2, 3)
    ),
    "mix: weights must be a sequence, got NoneType": lambda x, y: ops.mix([x, y], None),
    "mean_of: weights[0] must be a number, got str": lambda x, y: ops.mean_of([x], y, ["1"]),
    "weighted_sum: weights[0] must be a number, got str": lambda x, y: ops.weighted_sum([x], ["1"], y),
    "weighted_sum: weights must be 1, one for each buffer, got 2": lambda x, y: ops.weighted_sum([x], [1, 2], y),
    "norms: starts[1] must be a whole number from 0 to 4, got float": lambda x, y: ops.norms(x, [0, 1.5]),
    "norms: starts must be a sequence, got NoneType": lambda x, y: ops.norms(x, None),
    "norms: starts[1] must be a whole number from 0 to 4, got -1": lambda x, y: ops.norms(x, [0, -1]),
    "dot: y is missing": lambda x, y: ops.dot(x),
}


@pytest.mark.parametrize("says", MISTAKEN)
def test_mistakes_are_told_in_the_cpus_words(carrier: Carrier, says: str) -> None:
    for x, y in (ones(carrier, 2), list(np.ones((2, 4), np.float32))):
        with pytest.raises((TypeError, ValueError)) as raised:
            MISTAKEN[says](x, y)
        assert str(raised.value) == says
        assert (np.asarray(x if isinstance(x, np.ndarray) else carrier.got(x)) == 1).all()


def test_two_bytes_where_only_rules_know_them(gpu: Gpu) -> None:
    x = Array(np.ones(4, np.float16))
    for says, call in {
        "normal: out": lambda: ops.normal(x, 1.0, 1, 2, 3),
        "elastic_all: c": lambda: ops.elastic_all([Array(np.ones(4, np.float16))], x, 0.1),
        "mix: replicas[0]": lambda: ops.mix([x], [[1.0]]),
        "mean_of: out": lambda: ops.mean_of([Array(np.ones(4, np.float16))], x),
    }.items():
        with pytest.raises(TypeError) as raised:
            call()
        assert str(raised.value) == f"{says} must be float32 or float64 on a GPU, got float16"
    assert not gpu.launches


def test_a_mistake_on_the_gpu_is_one_sentence(gpu: Gpu) -> None:
    gpu.refusal = "an illegal memory access was encountered"
    with pytest.raises(Exception, match=r"dot<float> could not be started on GPU 0: an illegal memory access"):
        ops.norm(Array(np.ones(4, np.float32)))
