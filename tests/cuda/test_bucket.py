"""Tensors anywhere and their bucket: what comes out is what single ops give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.cuda.emulation import emulate
from tests.cuda.making import KINDS, buffers, each_kind, each_order, structure

from loosestep import ops

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
    three, emulated = KINDS[target](3), emulate("bucket")
    name = f"gather<{source}, {target}>"
    emulated.launch(name, (2,), (64,), [passed, bucket, three], backwards=backwards)
    want = np.concatenate([x.astype(KINDS[target]) for x in tensors]) / three
    assert bucket.tobytes() == want.tobytes()
    back = scattered(source)
    passed, _kept = table(back)
    name = f"scatter<{target}, {source}>"
    emulated.launch(name, (3,), (64,), [passed, bucket, KINDS[source](1)], backwards=backwards)
    for got, begin, end in zip(back, STARTS, STARTS[1:], strict=False):
        assert got.tobytes() == bucket[begin:end].astype(KINDS[source]).tobytes()


def of_bfloat16(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def to_bfloat16(x: np.ndarray) -> np.ndarray:
    """Rounded to the nearest, ties to even."""
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


@pytest.mark.parametrize("narrow", ["float16", "bfloat16"])
def test_tensors_of_two_bytes_and_a_float_bucket(narrow: str) -> None:
    kept = np.float16 if narrow == "float16" else np.uint16
    numbers = [(np.arange(size) - 3).astype(np.float32) / 7 for size in SIZES]
    tensors = [x.astype(np.float16) if narrow == "float16" else to_bfloat16(x) for x in numbers]
    (bucket,) = buffers(1, int(STARTS[-1]), "float")
    passed, _kept = table(tensors)
    emulate("bucket").launch(f"gather<{narrow}, float>", (2,), (64,), [passed, bucket, np.float32(3)])
    wide = [x.astype(np.float32) if narrow == "float16" else of_bfloat16(x) for x in tensors]
    assert bucket.tobytes() == (np.concatenate(wide) / np.float32(3)).tobytes()
    emulate("bucket").launch(f"scatter<float, {narrow}>", (2,), (64,), [passed, bucket, np.float32(2)])
    for got, begin, end in zip(tensors, STARTS, STARTS[1:], strict=False):
        part = bucket[begin:end] / np.float32(2)
        want = part.astype(np.float16) if narrow == "float16" else to_bfloat16(part)
        assert got.astype(kept).tobytes() == want.tobytes()


RULES: dict[str, tuple[int, list[float]]] = {  # buffers of state, scalars
    "Sgd": (0, [0.1]),
    "Momentum": (1, [0.1, 0.9]),
    "Nesterov": (1, [0.1, 0.9]),
    "Adam": (2, [0.1, 0.9, 0.99, 1e-8, 3]),
}


def fields(rule: str, scalars: list[float]) -> list[float]:
    """Adam's corrections are made once, in double."""
    if rule != "Adam":
        return scalars
    rate, beta1, beta2, epsilon, step = scalars
    size, inverse = rate / (1 - beta1**step), 1 / np.sqrt(1 - beta2**step)
    return [1 - beta1, beta2, 1 - beta2, size, inverse, epsilon]


@each_kind
@pytest.mark.parametrize("rule", RULES)
def test_an_update_where_tensors_lie(kind: str, rule: str) -> None:
    many, scalars = RULES[rule]
    tensors, n = scattered(kind), int(STARTS[-1])
    *state, bucket = buffers(many + 1, n, kind)
    state = [np.abs(x) for x in state]
    wanted, kept = np.concatenate(tensors), [x.copy() for x in state]
    getattr(ops, rule.lower())(wanted, *kept, bucket / KINDS[kind](3), *scalars)
    passed, _kept = table(tensors)
    types = ", ".join([kind] * (many + 1))
    given = [structure(*[(KINDS[kind], each) for each in fields(rule, scalars)]), passed, bucket, KINDS[kind](3)]
    emulate("bucket").launch(f"update<{rule}<{kind}>, {types}>", (2,), (64,), [*given, *state])
    assert np.concatenate(tensors).tobytes() == wanted.tobytes()
    for got, want in zip(state, kept, strict=True):
        assert got.tobytes() == want.tobytes()
