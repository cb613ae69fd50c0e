"""Arguments for every op, made from the signature of its body."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from loosestep import _core, ops

LENGTHS = [0, 1, 15, 16, 17, 4095, 4096, 4097]
DTYPES = [np.float32, np.float64]
SCALES = 10.0 ** np.arange(-3, 4)
SHARED = [name for name in ops.specification if hasattr(ops.exact, name)]
names = pytest.mark.parametrize("name", ops.specification)
isas = pytest.mark.parametrize("isa", _core.isas())
dtypes = pytest.mark.parametrize("dtype", DTYPES)


def parameters(name: str) -> dict[str, str]:
    found = inspect.signature(ops.specification[name]).parameters
    return {p.name: str(p.annotation) for p in found.values()}


def natives(name: str) -> dict[str, Callable[..., Any]]:
    """By instruction set: every op exists in each, but those that read element by element."""
    return {isa: getattr(_core.isa(isa), name, None) or getattr(_core, name) for isa in _core.isas()}


@cache
def squares(name: str) -> list[str]:
    """The buffers whose root is taken, so that they must not be negative: which they are the body says."""

    def are_numbers(negative: str) -> bool:
        kinds = parameters(name)
        given = {p: -100.0 if p == negative else 0.25 for p, kind in kinds.items() if kind in ("Buffer", "float")}
        buffers = {p: np.full(3, value) for p, value in given.items() if kinds[p] == "Buffer"}
        with np.errstate(invalid="ignore"):
            ops.specification[name](**given | buffers | {p: 3 for p, kind in kinds.items() if kind == "int"})
        return all(np.isfinite(each).all() for each in buffers.values())

    plain = set(parameters(name).values()) <= {"Buffer", "float", "int"}
    return [p for p, kind in parameters(name).items() if plain and kind == "Buffer" and not are_numbers(p)]


def buffer(rng: np.random.Generator, n: int, dtype: type, offset: int = 0) -> np.ndarray:
    """Values of very different sizes, `offset` elements after a 64-byte boundary."""
    room = np.empty(n + 32, dtype)
    start = -room.ctypes.data % 64 // room.itemsize + offset
    out = room[start : start + n]
    out[:] = rng.standard_normal(n) * SCALES[rng.integers(0, SCALES.size, n)]
    return out


def arguments(name: str, n: int, dtype: type, offset: int = 0, seed: int = 0) -> dict[str, Any]:
    """Arguments of each kind that a signature names; with an offset, each buffer at another alignment."""
    rng = np.random.default_rng(seed)
    made: dict[str, Any] = {}
    for position, (parameter, kind) in enumerate(parameters(name).items()):
        if kind == "Buffer":
            made[parameter] = buffer(rng, n, dtype, offset * (position + 1) % 16)
        elif kind == "Sequence[Buffer]":
            made[parameter] = [buffer(rng, n, dtype, offset) for _ in range(3)]
        elif kind.startswith("Sequence[float]"):
            made[parameter] = [0.3, 0.0, 1.7]
        elif kind.startswith("Sequence[Sequence[float]]"):
            made[parameter] = [[0.3, 0.0, 1.7], [0.2, 0.5, 0.3], [-1.0, 1e-3, 1.0]]
        elif kind.startswith("Sequence[int]"):
            made[parameter] = [0, n // 3, n // 3, n]
        else:
            made[parameter] = 3 if kind == "int" else 0.1 + 0.09 * position
    for parameter in squares(name):
        np.abs(made[parameter], out=made[parameter])
    return made


def for_threads(name: str, dtype: type) -> int:
    """A length for four threads: each takes at least 1 MiB of all buffers together."""
    return (4 << 20) // (len(buffers_of(arguments(name, 1, dtype))) * np.dtype(dtype).itemsize) + 3


def buffers_of(given: dict[str, Any]) -> list[np.ndarray]:
    lists = [value if isinstance(value, list) else [value] for value in given.values()]
    return [each for values in lists for each in values if isinstance(each, np.ndarray)]


def assert_same(name: str, functions: dict[str, Callable[..., Any]], given: dict[str, Any]) -> None:
    """Each does to the arguments, where they lie, what the body does; that is the slow one, and asked once."""
    before, wanted = copy.deepcopy(given), copy.deepcopy(given)
    want = ops.specification[name](**wanted)
    for label, function in functions.items():
        assert repr(function(**given)) == repr(want), label
        for got, expected, old in zip(*map(buffers_of, (given, wanted, before)), strict=True):
            assert got.tobytes() == expected.tobytes(), label
            got[:] = old


def replaced(given: dict[str, Any], parameter: str, bad: Any) -> dict[str, Any]:
    """The arguments with one buffer, or the second of a sequence of them, replaced."""
    value = given[parameter]
    return {**given, parameter: [value[0], bad, *value[2:]] if isinstance(value, list) else bad}


def each_buffer(name: str) -> list[str]:
    return [p for p, kind in parameters(name).items() if "Buffer" in kind]


def written(name: str) -> list[str]:
    """The buffers that the body changes."""
    given = arguments(name, 33, np.float32)
    before = copy.deepcopy(given)
    ops.specification[name](**given)
    return [p for p in each_buffer(name) if not np.array_equal(given[p], before[p])]
