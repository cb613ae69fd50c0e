"""Every rule, executed as the GPU would: the bits of the CPU's op, at any length and any address."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.cuda.emulated.emulation import emulate_kernel, fenced, rules
from tests.looped import looped

from loosestep import _core, ops

Array = NDArray[Any]
LENGTHS = (0, 1, 15, 16, 17, 1000)
LONG = 70_003
MISALIGNED = ((0, 0, 0, 0, 0), (1, 1, 1, 1, 1), (0, 1, 2, 3, 1), (3, 0, 2, 1, 0))
"""Elements past a multiple of 16 bytes at which each buffer begins: alike, and each elsewhere."""
TYPES = {"float32": "float", "float64": "double", "float16": "float16", "bfloat16": "bfloat16"}
NAMES = _core.rules.names()

each_type = looped("kind", TYPES)


def of_bfloat16(bits: Array) -> Array:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def to_bfloat16(x: Array) -> Array:
    """Rounded to the nearest, ties to even."""
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


WIDENED = {"float16": lambda x: x.astype(np.float32), "bfloat16": of_bfloat16}
NARROWED = {"float16": lambda x: x.astype(np.float16), "bfloat16": to_bfloat16}


def placed(values: Array, past: int) -> Array:
    """A copy that begins so many elements past a multiple of 64 bytes, with a guard on both sides."""
    room = np.full(values.size + 192, 77, values.dtype)
    first = -(room.ctypes.data // values.itemsize) % (64 // values.itemsize) + 64 + past
    view = room[first : first + values.size]
    view[:] = values
    return view


def guards_hold(view: Array) -> bool:
    room = view.base
    assert isinstance(room, np.ndarray)
    first = (view.ctypes.data - room.ctypes.data) // view.itemsize
    return bool((room[:first] == 77).all() and (room[first + view.size :] == 77).all())


def scalars(op: str) -> list[Any]:
    parameters, buffers, _ = _core.rules.signature(op)
    given = {"step": 3, "every": 3, "most": 2, "seen": 1.0}
    return [given.get(name, 0.3 + 0.05 * i) for i, name in enumerate(parameters[buffers:])]


def run(op: str, kind: str, n: int, past: tuple[int, ...], *, backwards: bool = False) -> None:
    _, count, _ = _core.rules.signature(op)
    rng = np.random.default_rng(n)
    narrow = kind in WIDENED
    drawn = [rng.random(n).astype(np.float32 if narrow else kind) for _ in range(count)]
    held = [NARROWED[kind](x) if narrow else x for x in drawn]
    wanted = [WIDENED[kind](x) if narrow else x.copy() for x in held]
    buffers = [placed(x, by) for x, by in zip(held, past, strict=False)]
    given = scalars(op)
    launch(op, kind, n, buffers, given, backwards=backwards)
    getattr(ops, op)(*wanted, *given)
    for got, want in zip(buffers, wanted, strict=True):
        assert got.tobytes() == (NARROWED[kind](want) if narrow else want).tobytes()
        assert guards_hold(got)


def launch(op: str, kind: str, n: int, buffers: list[Array], given: list[Any], *, backwards: bool) -> None:
    name = f"elementwise<{rules()[NAMES.index(op)]}, {TYPES[kind]}>"
    places = np.array([x.ctypes.data for x in buffers], np.uint64)
    arguments = [as_struct(_core.rules.fields(op, kind == "float64", tuple(given))), as_struct(places.tobytes())]
    emulate_kernel("elementwise", name).launch(name, (5,), (64,), [*arguments, np.uint64(n)], backwards=backwards)


def as_struct(content: bytes) -> Any:
    return np.frombuffer(content, f"V{len(content)}")[0]


@each_type
@pytest.mark.parametrize("op", NAMES)
def test_a_rule_gives_the_bits_of_the_cpu(op: str, kind: str) -> None:
    for n in LENGTHS:
        for past in MISALIGNED:
            run(op, kind, n, past)


@looped("at_end", [True, False])
@looped("kind", ["float32", "float64"])
@pytest.mark.parametrize("op", NAMES)
def test_nothing_outside_of_a_buffer_is_even_read(op: str, kind: str, at_end: bool) -> None:
    """Each lies against memory that nobody may touch: a kernel that did would end the process."""
    for n in (1, 17, 1000):
        drawn = [np.ones(n, kind) for _ in range(_core.rules.signature(op)[1])]
        launch(op, kind, n, [fenced(x, at_end=at_end) for x in drawn], scalars(op), backwards=False)


@each_type
@pytest.mark.parametrize("op", NAMES)
def test_a_long_buffer_is_walked_in_strides(op: str, kind: str) -> None:
    run(op, kind, LONG, MISALIGNED[2], backwards=True)


def test_rules_are_named_like_their_ops() -> None:
    assert [rule.lower() for rule in rules()] == [name.replace("_", "") for name in NAMES]


@pytest.mark.parametrize("kind", WIDENED)
def test_every_number_of_two_bytes_is_widened_and_narrowed_exactly(kind: str) -> None:
    every = np.arange(1 << 16, dtype=np.uint16)
    x, out = placed(every, 1), placed(np.zeros_like(every), 3)
    launch("copy", kind, every.size, [x, out], [], backwards=False)
    with np.errstate(invalid="ignore"):
        numbers = every.view(np.float16) if kind == "float16" else of_bfloat16(every)
    np.testing.assert_array_equal(out, np.where(np.isnan(numbers), 0x7FFF, every))
