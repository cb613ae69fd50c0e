"""What ops refuse, by discovery: nothing is ever converted, and a message names op, argument and wish."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.contract.ops.op_arguments import (
    arguments,
    buffers_of,
    each_buffer,
    names,
    replaced,
    written,
)
from tests.looped import looped

from loosestep import ops


def of_each(buffers: Callable[[str], list[str]]) -> Callable[[Callable[[str, str], None]], Callable[[str], None]]:
    """Make one test of an op of the buffers that it has."""

    def made(test: Callable[[str, str], None]) -> Callable[[str], None]:
        def loop(name: str) -> None:
            looped("parameter", buffers(name))(test)(name=name)

        return pytest.mark.parametrize("name", [name for name in ops.specification if buffers(name)])(loop)

    return made


every_buffer, written_buffer = of_each(each_buffer), of_each(written)


def refuse(error: type[Exception], name: str, parameter: str, bad: Any, *says: str) -> None:
    given = replaced(arguments(name, 8, np.float32), parameter, bad)
    before = copy.deepcopy([x.copy() for x in buffers_of(given)])
    with pytest.raises(error) as raised:
        getattr(ops, name)(**given)
    message = str(raised.value)
    assert message.startswith(f"{name}: ")
    for text in says:
        assert text in message
    for x, was in zip(buffers_of(given), before, strict=True):
        assert x.tobytes() == was.tobytes()


@every_buffer
def test_what_is_no_array_is_refused(name: str, parameter: str) -> None:
    for bad in ([0.0] * 8, None, 1.5, "text", memoryview(bytes(32))):
        refuse(TypeError, name, parameter, bad, parameter, f"got {type(bad).__name__}")


@every_buffer
def test_other_types_are_refused(name: str, parameter: str) -> None:
    for other in ("float16", "int32", "complex64", ">f4", "longdouble"):
        refuse(TypeError, name, parameter, np.ones(8, other), parameter, f"got {np.dtype(other)}")


@every_buffer
def test_mixed_types_are_refused(name: str, parameter: str) -> None:
    if len(each_buffer(name)) > 1:
        refuse(TypeError, name, parameter, np.ones(8), "float64")


@every_buffer
def test_strided_arrays_are_refused(name: str, parameter: str) -> None:
    refuse(ValueError, name, parameter, np.ones(16, np.float32)[::2], parameter, "contiguous", "strided")


@every_buffer
def test_unaligned_arrays_are_refused(name: str, parameter: str) -> None:
    odd = np.frombuffer(bytearray(33), np.float32, offset=1)
    refuse(ValueError, name, parameter, odd, parameter, "unaligned")


@every_buffer
def test_other_lengths_are_refused(name: str, parameter: str) -> None:
    if len(each_buffer(name)) > 1:
        refuse(ValueError, name, parameter, np.ones(7, np.float32), "element", "7", "8")


@written_buffer
def test_read_only_arrays_are_refused_where_they_are_written(name: str, parameter: str) -> None:
    x = np.ones(8, np.float32)
    x.flags.writeable = False
    refuse(ValueError, name, parameter, x, parameter, "writable", "read-only")


@written_buffer
def test_written_arrays_overlap_no_other(name: str, parameter: str) -> None:
    given = arguments(name, 8, np.float32)
    for other in each_buffer(name):
        if other != parameter:
            room = np.ones(9, np.float32)
            overlapping = replaced(replaced(given, parameter, room[1:]), other, room[:8])
            with pytest.raises(ValueError, match="must not overlap"):
                getattr(ops, name)(**overlapping)


def test_read_only_arrays_are_read() -> None:
    x = np.ones(3, np.float32)
    x.flags.writeable = False
    assert ops.dot(x, x) == 3.0


@names
def test_wrong_numbers_of_arguments_are_refused(name: str) -> None:
    given = arguments(name, 8, np.float32)
    first = next(iter(given))
    with pytest.raises(TypeError, match=f"{name}: takes {len(given)} arguments, got {len(given) + 1}"):
        getattr(ops, name)(*given.values(), 1.0)
    with pytest.raises(TypeError, match=f"{name}: unknown argument nonsense"):
        getattr(ops, name)(**given, nonsense=1.0)
    with pytest.raises(TypeError, match=f"{name}: {first} is missing"):
        getattr(ops, name)(**{k: v for k, v in given.items() if k != first})
    with pytest.raises(TypeError, match=f"{name}: {first} was given twice"):
        getattr(ops, name)(given[first], **given)


@pytest.mark.parametrize("bad", ["0.1", None, np.ones(1), 1j], ids=repr)
def test_a_scalar_is_a_number(bad: object) -> None:
    x, c = np.ones(2), np.ones(2)
    with pytest.raises(TypeError, match=f"elastic: rate must be a number, got {type(bad).__name__}|float64"):
        ops.elastic(x, c, bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("good", [1, True, np.float32(1), np.float64(1), np.int64(1)], ids=repr)
def test_any_number_is_a_scalar(good: Any) -> None:
    x = np.full(2, 3.0)
    ops.scale(x, good)
    assert x.tolist() == [3.0, 3.0]
