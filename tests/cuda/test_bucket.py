"""Tensors anywhere and their bucket: what comes out is what single ops give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.cuda.emulation import emulate_kernel
from tests.cuda.making import KINDS, buffers, each_kind, each_order, structure
from tests.cuda.test_elementwise import NARROWED, WIDENED, as_struct, scalars

from loosestep import _core, ops
from loosestep.cuda import elementwise
from loosestep.cuda.buckets import is_step

PIECE = 8192
SIZES = [0, 5, 1, 8192, 8193, 64, 0, 3]
STARTS = np.concatenate([[0], np.cumsum(SIZES)])
TENSOR = np.dtype([("address", np.uint64), ("length", np.uint64), ("offset", np.uint64)])


def table(tensors: list[np.ndarray]) -> tuple[Any, list[np.ndarray]]:
    """The kernel's argument, and what it points to."""
    rows = [(x.ctypes.data, x.size, at) for x, at in zip(tensors, STARTS, strict=False)]
    listed = np.array(rows, TENSOR)
    first = np.concatenate([[0], np.cumsum([-(-x.size // PIECE) for x in tensors])]).astype(np.uint64)
    return structure(("u8", listed), ("u8", first), ("u8", len(tensors))), [listed, first]


def scattered(kind: str, seed: int = 0) -> list[np.ndarray]:
    """Tensors at any alignment."""
    return [buffers(1, size, kind, (i + seed) % 3)[0] for i, size in enumerate(SIZES)]


@each_order
@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("offset", [0, 1])
def test_gathered_and_scattered(source: str, target: str, offset: int, backwards: bool) -> None:
    tensors = scattered(source)
    (bucket,) = buffers(1, int(STARTS[-1]), target, offset)
    passed, _kept = table(tensors)
    three = KINDS[target](3)
    name = f"gather<{source}, {target}>"
    emulate_kernel("bucket", name).launch(name, (2,), (64,), [passed, bucket, three], backwards=backwards)
    want = np.concatenate([x.astype(KINDS[target]) for x in tensors]) / three
    assert bucket.tobytes() == want.tobytes()
    back = scattered(source)
    passed, _kept = table(back)
    name = f"scatter<{target}, {source}>"
    emulate_kernel("bucket", name).launch(
        name, (3,), (64,), [passed, bucket, KINDS[source](1)], backwards=backwards
    )
    for got, begin, end in zip(back, STARTS, STARTS[1:], strict=False):
        assert got.tobytes() == bucket[begin:end].astype(KINDS[source]).tobytes()


@pytest.mark.parametrize("narrow", ["float16", "bfloat16"])
def test_tensors_of_two_bytes_and_a_float_bucket(narrow: str) -> None:
    numbers = [(np.arange(size) - 3).astype(np.float32) / 7 for size in SIZES]
    tensors = [NARROWED[narrow](x) for x in numbers]
    (bucket,) = buffers(1, int(STARTS[-1]), "float")
    passed, _kept = table(tensors)
    name = f"gather<{narrow}, float>"
    emulate_kernel("bucket", name).launch(name, (2,), (64,), [passed, bucket, np.float32(3)])
    assert bucket.tobytes() == (WIDENED[narrow](np.concatenate(tensors)) / np.float32(3)).tobytes()
    name = f"scatter<float, {narrow}>"
    emulate_kernel("bucket", name).launch(name, (2,), (64,), [passed, bucket, np.float32(2)])
    for got, begin, end in zip(tensors, STARTS, STARTS[1:], strict=False):
        assert got.tobytes() == NARROWED[narrow](bucket[begin:end] / np.float32(2)).tobytes()


NAMES = [name for name in _core.rules.names() if is_step(*elementwise.signature(name))]


def run(op: str, tensors: list[np.ndarray], flat: list[np.ndarray], divisor: float) -> None:
    """`flat`: the rule's buffers but x."""
    number = np.float64 if tensors[0].dtype == np.float64 else np.float32
    kind = {"f2": "float16", "u2": "bfloat16", "f4": "float", "f8": "double"}[tensors[0].dtype.str[1:]]
    fields = as_struct(_core.rules.fields(op, number == np.float64, tuple(scalars(op))))
    places = as_struct(np.array([each.ctypes.data for each in flat], np.uint64).tobytes())
    passed, _kept = table(tensors)
    name = f"update<{elementwise.rule_of(op)}, {kind}>"
    emulate_kernel("bucket", name).launch(name, (2,), (64,), [fields, passed, places, number(divisor)])


@each_kind
@pytest.mark.parametrize("op", NAMES)
@pytest.mark.parametrize("offset", [0, 1])
def test_an_update_where_tensors_lie(kind: str, op: str, offset: int) -> None:
    names, count, _ = elementwise.signature(op)
    flat = [np.abs(x) for x in buffers(count - 1, int(STARTS[-1]), kind, offset)]
    tensors, g = scattered(kind), names.index("g")
    wanted = [
        np.concatenate(tensors),
        *(x / KINDS[kind](3) if i + 1 == g else x.copy() for i, x in enumerate(flat)),
    ]
    getattr(ops, op)(*wanted, *scalars(op))
    run(op, tensors, flat, 3)
    assert np.concatenate(tensors).tobytes() == wanted[0].tobytes()
    kept = [i for i in range(1, count) if i != g]
    assert [flat[i - 1].tobytes() for i in kept] == [wanted[i].tobytes() for i in kept]


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_an_update_in_two_bytes_is_computed_in_four(kind: str) -> None:
    narrow, wide = NARROWED[kind], WIDENED[kind]
    numbers = [(np.arange(size) - 3).astype(np.float32) / 7 for size in SIZES]
    tensors, (v, g) = [narrow(x) for x in numbers], (narrow(np.linspace(-1, 2, int(STARTS[-1]))) for _ in range(2))
    x, u = wide(np.concatenate(tensors)), wide(v)
    ops.momentum(x, u, wide(g) / np.float32(3), *scalars("momentum"))
    run("momentum", tensors, [v, g], 3)
    assert (np.concatenate(tensors).tobytes(), v.tobytes()) == (narrow(x).tobytes(), narrow(u).tobytes())
