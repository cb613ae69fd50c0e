"""Elementwise rules on a device: one launch each, with the fields that the core makes of the scalars."""

from __future__ import annotations

from functools import cache
from typing import Any

from loosestep import _core
from loosestep.cuda.arrays import BYTES, all_seen
from loosestep.cuda.launch import THREADS, addresses, blocks_for, by_value, launch

C_TYPES = {"float32": "float", "float64": "double", "float16": "float16", "bfloat16": "bfloat16"}
ACCESS = 16
"""Bytes that a thread moves at once, of each buffer."""


def run(op: str, arguments: tuple[Any, ...]) -> None:
    """Run the op of this name on the stream of its first buffer's framework."""
    parameters, count, written = signature(op)
    buffers = all_seen(op, parameters[:count], arguments[:count], written)
    first = buffers[0]
    fields = _core.rules.fields(op, first.dtype == "float64", arguments[count:])
    if first.size:
        places = addresses([buffer.address for buffer in buffers])
        launch("elementwise", kernel(op, first.dtype), first.place, *shape(first.size, first.dtype),
               (by_value(fields), places, first.size))  # fmt: skip


@cache
def signature(op: str) -> tuple[tuple[str, ...], int, int]:
    """Return an op's parameters, how many of them are buffers, and which of those are written."""
    names, count, written = _core.rules.signature(op)
    return tuple(names), count, written


def kernel(op: str, dtype: str) -> str:
    """Return the name of a kernel, such as `elementwise<Elastic, float>`."""
    return f"elementwise<{rule_of(op)}, {C_TYPES[dtype]}>"


def rule_of(op: str) -> str:
    """Return the type of a rule: its op's name in capitals."""
    return "".join(word.capitalize() for word in op.split("_"))


def shape(size: int, dtype: str) -> tuple[tuple[int], tuple[int]]:
    """Return blocks and threads: a thread for every vector access, which takes the ends as well."""
    return (blocks_for(-(-size * BYTES[dtype] // ACCESS)),), (THREADS,)
