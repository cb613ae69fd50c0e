"""What is sent in place of a buffer on a card; what a message leaves out stays in the buffer for the next one.

Add the new gradient (or change) to the buffer, `take` from it, send, and the receiver rebuilds: error feedback
(Seide et al. 2014; Karimireddy et al. 2019). All of it is the same in every run.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from loosestep.cuda.arrays import Buffer, check_wide, seen
from loosestep.cuda.elementwise import C_TYPES
from loosestep.cuda.launch import THREADS, blocks_for, launch
from loosestep.cuda.memory import address, fetched, room, sent, structure
from loosestep.cuda.reductions import size_sum

GROUP = 256
"""Elements that share a scale."""
DIGITS = 256
"""Of one of the four steps that find the k-th size; a thread has one."""
TOP = 1024
"""Elements, and threads, of a thread block that takes the largest."""


class Signs(NamedTuple):
    """A bit an element (bit i % 32 of word i / 32: whether x_i is below 0) and the mean size."""

    words: Any
    scale: float


class Bytes(NamedTuple):
    """A byte an element and a scale for every 256: max |x| / 127."""

    codes: Any
    scales: Any


class Largest(NamedTuple):
    """Places (in order) and values of the elements of largest size; of equal ones the first."""

    places: Any
    values: Any


def floats(op: str, given: Any) -> Buffer:
    """A buffer of float32 or float64 that is not empty."""
    x = seen(op, "x", given, written=True)
    check_wide(op, "x", x)
    if not x.size:
        raise ValueError(f"{op}: x must hold at least 1 element, got 0")
    return x


def take_signs(given: Any) -> Signs:
    """x -= scale sign(x), with the mean size of x as the scale. n / 32 words and one number are to be sent."""
    x = floats("take_signs", given)
    total, words = room(x.place, 1, "float64"), room(x.place, -(-x.size // 32), "uint32")
    size_sum(x, total)
    start(x, "take_signs", x.size, [x.address, x.size, address(total), address(words)])
    return Signs(words, float(fetched(x.place, total)[0]) / x.size)


def from_signs(message: Signs, given: Any) -> None:
    """out = the scale, or minus it."""
    out = floats("from_signs", given)
    scale = structure((out.dtype, message.scale))
    start(out, "from_signs", out.size, [address(message.words), out.size, scale, out.address])


def take_bytes(given: Any) -> Bytes:
    """x -= scale code, code = x / scale to the nearest whole number. To be sent: n bytes, n / 256 numbers."""
    x = floats("take_bytes", given)
    codes, scales = room(x.place, x.size, "int8"), room(x.place, -(-x.size // GROUP), x.dtype)
    start(x, "take_bytes", -(-x.size // 8), [x.address, x.size, address(codes), address(scales)])
    return Bytes(codes, scales)


def from_bytes(message: Bytes, given: Any) -> None:
    """out = scale code."""
    out = floats("from_bytes", given)
    start(out, "from_bytes", out.size, [address(message.codes), address(message.scales), out.size, out.address])


def start(x: Buffer, kernel: str, threads: int, arguments: list[Any]) -> None:
    launch("codecs", f"{kernel}<{C_TYPES[x.dtype]}>", x.place, (blocks_for(threads),), (THREADS,), arguments)


def take_largest(given: Any, k: int) -> Largest:
    """The k elements of largest size, which are 0 in x then. k places (8 bytes) and values are to be sent.

    x: float32. Eleven small launches: the k-th size is found digit by digit.
    """
    x = floats("take_largest", given)
    if x.dtype != "float32" or not 1 <= k <= x.size:
        raise ValueError(f"take_largest: k must be from 1 to {x.size} of float32, got {k} of {x.dtype}")
    blocks = -(-x.size // TOP)
    found, chosen = wanted(x, k), room(x.place, 2 * blocks, "uint64")
    places, values = room(x.place, k, "uint64"), room(x.place, k, "float32")
    each(x, "count_chosen", (blocks,), [x.address, x.size, address(found), address(chosen)])
    each(x, "begin_at", (1,), [address(chosen), blocks])
    given = [x.address, x.size, address(found), address(chosen), 1, address(places), address(values)]
    each(x, "take_chosen", (blocks,), given)
    return Largest(places, values)


def wanted(x: Buffer, k: int) -> Any:
    """The k-th size, on the card: four digits of eight bits, the highest first."""
    found = sent(x.place, np.array([0, k], np.uint64))
    counts = sent(x.place, np.zeros(DIGITS, np.uint64))
    for shift in (24, 16, 8, 0):
        given = [x.address, x.size, address(found), shift, address(counts)]
        each(x, "count_digit", (min(1024, -(-x.size // TOP)),), given)
        launch("top_k", "choose_digit", x.place, (1,), (DIGITS,), [address(found), shift, address(counts)])
    return found


def each(x: Buffer, kernel: str, grid: tuple[int, ...], arguments: list[Any]) -> None:
    launch("top_k", kernel, x.place, grid, (TOP,), arguments)
