"""Ops that draw random numbers on a device: bit for bit those of the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loosestep.cuda.arguments import number, whole
from loosestep.cuda.arrays import BYTES, all_seen, check_wide
from loosestep.cuda.elementwise import C_TYPES, rule_of
from loosestep.cuda.launch import THREADS, blocks_for, launch
from loosestep.cuda.memory import structure

RULES = {"normal": ("out",), "add_normal": ("x",), "langevin": ("x", "g")}
"""The buffers of each; the first is written."""
SCALARS = {"normal": ("scale",), "add_normal": ("scale",), "langevin": ("rate", "scale")}
PLACES = {"seed": 2**64 - 1, "stream": 2**32 - 1, "step": 2**32 - 1, "start": 2**63 - 1}
"""The numbers that say where in which stream, and the largest of each."""


def run(op: str, arguments: Sequence[Any]) -> None:
    """Run the op of this name."""
    names = RULES[op]
    buffers = all_seen(op, names, arguments[: len(names)], 1)
    x, end = buffers[0], len(names) + len(SCALARS[op])
    seed, stream, step, start = places(op, arguments[end:])
    check_wide(op, names[0], x)
    scalars = zip(SCALARS[op], arguments[len(names) : end], strict=True)
    fields = structure(*[(x.dtype, number(op, name, each)) for name, each in scalars])
    where = structure(("u8", seed), ("u4", stream), ("u4", step))
    addresses = [buffer.address for buffer in buffers]
    aligned = start % 4 == 0 and all(each % (4 * BYTES[x.dtype]) == 0 for each in addresses)
    if x.size:
        grid = (blocks_for(x.size // 4 + 2),)
        given = [fields, where, start, x.size, int(aligned), *addresses]
        launch("noise", kernel(op, C_TYPES[x.dtype]), x.place, grid, (THREADS,), given)


def kernel(op: str, kind: str) -> str:
    """Return a name such as `noisy<Langevin<float>, float, const float>`: buffers but the first are read."""
    return f"noisy<{', '.join([f'{rule_of(op)}<{kind}>', kind, *[f'const {kind}'] * (len(RULES[op]) - 1)])}>"


def places(op: str, given: Sequence[Any]) -> list[int]:
    """Return the checked arguments; `start` may be left out."""
    named = zip(PLACES.items(), given, strict=True)
    return [0 if each is None else whole(op, name, each, most) for (name, most), each in named]
