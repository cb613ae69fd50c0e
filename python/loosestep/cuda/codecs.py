"""Wire formats on a device, with the words of the CPU's: values and messages are buffers of one device.

The functions are those of `_core.codecs`; `loosestep.codecs` describes each format. What returns a bool says
whether all values were finite, and waits for the device to know.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from loosestep.cuda.arrays import Buffer, check_wide, seen
from loosestep.cuda.elementwise import C_TYPES
from loosestep.cuda.launch import MOST_BLOCKS, THREADS, blocks_for, launch
from loosestep.cuda.memory import address, fetched, room, sent, structure
from loosestep.cuda.reductions import BLOCK, FOLDING

WARPS = THREADS // 32
"""Of a thread block."""


class Blocks(NamedTuple):
    """A format whose blocks share an exponent of 2 bytes: its rule, the values of a block, the bits of a code."""

    rule: str
    values: int
    bits: int

    def exponents(self, count: int) -> int:
        """Return the bytes of the exponents, which come first."""
        return 2 * -(-count // self.values)

    def bytes(self, count: int) -> int:
        """Return the bytes of a message."""
        return self.exponents(count) + -(-self.bits * count // 8)


KINDS = {
    "float16": Blocks("HalfBlocks", 256, 16),
    "e4m3": Blocks("E4m3Blocks", 256, 8),
    "e5m2": Blocks("E5m2Blocks", 256, 8),
    "e3m0": Blocks("OctaveBlocks", 64, 4),
}


def values_of(op: str, name: str, given: Any, *, written: bool = False) -> Buffer:
    """Return a buffer of values that was checked."""
    buffer = seen(op, name, given, written=written)
    check_wide(op, name, buffer)
    return buffer


def words_of(op: str, given: Any, least: int, like: Buffer, *, written: bool = False) -> Buffer:
    """Return a buffer of words, of at least so many bytes, that was checked; it lies where the values lie."""
    wire = seen(op, "wire", given, written=written)
    if wire.device != like.device:
        raise ValueError(f"{op}: wire must be on GPU {like.device} like the values, got one on GPU {wire.device}")
    if wire.dtype != "float64":
        raise TypeError(f"{op}: wire must be float64, got {wire.dtype}")
    if 8 * wire.size < least:
        raise ValueError(f"{op}: wire must be words of at least {least} bytes, got {8 * wire.size}")
    if wire.address < like.end and like.address < wire.end:
        raise ValueError(f"{op}: wire and the values must not overlap")
    return wire


class Noted:
    """A number on the device that kernels set to 1 where a value is not finite."""

    def __init__(self, x: Buffer) -> None:
        self.place, self.held = x.place, sent(x.place, np.zeros(1, np.uint32))

    @property
    def address(self) -> int:
        return address(self.held)

    def finite(self) -> bool:
        """Return whether no kernel has set it, when all of them are done."""
        return not fetched(self.place, self.held)[0]


def start(kernel: str, like: Buffer, threads: int, given: list[Any]) -> None:
    """Launch a kernel for values of this dtype."""
    launch("codecs", kernel, like.place, (blocks_for(threads),), (THREADS,), given)


def warps(x: Buffer, each: int) -> int:
    """Return the threads for a warp each so many values."""
    return min(32 * -(-x.size // each), MOST_BLOCKS * THREADS)


def encode(kind: str, x: Any, wire: Any) -> bool:
    """Round to a format of few bits; return whether all values are finite."""
    values = values_of("encode", "x", x)
    least = 2 * values.size if kind == "bfloat16" else KINDS[kind].bytes(values.size)
    to = words_of("encode", wire, least, values, written=True)
    if not values.size:
        return True
    found, c_type = Noted(values), C_TYPES[values.dtype]
    if kind == "bfloat16":
        given = [values.address, values.size, to.address, found.address]
        start(f"encode_bfloat16<{c_type}>", values, values.size, given)
    else:
        how = KINDS[kind]
        codes = to.address + how.exponents(values.size)
        given = [values.address, values.size, to.address, codes, found.address]
        start(f"encode_blocks<{how.rule}, {c_type}>", values, warps(values, how.values), given)
    return found.finite()


def decode(kind: str, wire: Any, out: Any) -> None:
    """Fill `out` with what `encode` rounded."""
    to = values_of("decode", "out", out, written=True)
    least = 2 * to.size if kind == "bfloat16" else KINDS[kind].bytes(to.size)
    words, c_type = words_of("decode", wire, least, to), C_TYPES[to.dtype]
    if not to.size:
        return
    if kind == "bfloat16":
        start(f"decode_bfloat16<{c_type}>", to, to.size, [words.address, to.address, to.size])
        return
    how = KINDS[kind]
    codes = words.address + how.exponents(to.size)
    given = [words.address, codes, to.address, to.size]
    start(f"decode_blocks<{how.rule}, {c_type}>", to, to.size, given)


def sign_encode(x: Any, wire: Any) -> bool:
    """Write the mean size and the signs; return whether all values are finite."""
    values = values_of("sign_encode", "x", x)
    to = words_of("sign_encode", wire, 4 + -(-values.size // 8), values, written=True)
    if not values.size:
        launch("codecs", "mean_size", values.place, (1,), (32,), [0, 0, to.address])
        return True
    found, blocks = Noted(values), -(-values.size // BLOCK)
    sums, total = room(values.place, blocks, "float64"), room(values.place, 1, "float64")
    given = [values.address, values.size, to.address + 4, address(sums), found.address]
    start(f"encode_signs<{C_TYPES[values.dtype]}>", values, warps(values, BLOCK), given)
    launch("reduce", "fold_sums", values.place, (1,), (FOLDING,), [address(sums), 0, blocks, address(total)])
    launch("codecs", "mean_size", values.place, (1,), (32,), [address(total), values.size, to.address])
    return found.finite()


def sign_decode(wire: Any, out: Any) -> None:
    """Fill `out` with the mean size, with each sign."""
    to = values_of("sign_decode", "out", out, written=True)
    words = words_of("sign_decode", wire, 4 + -(-to.size // 8), to)
    if to.size:
        given = [words.address, words.address + 4, to.address, to.size]
        start(f"decode_signs<{C_TYPES[to.dtype]}>", to, to.size, given)


class Levels(NamedTuple):
    """How values are rounded at random: their levels, and how many values share a length."""

    levels: int
    bucket: int
    key: int = 0

    @property
    def bits(self) -> int:
        return (2 * self.levels).bit_length()

    def lengths(self, count: int) -> int:
        """Return the bytes of the lengths, which come first."""
        return 4 * -(-count // self.bucket)

    def bytes(self, count: int) -> int:
        """Return the bytes of a message."""
        return self.lengths(count) + -(-self.bits * count // 8)

    def passed(self) -> Any:
        """Return it as a kernel's argument."""
        return structure(("u8", self.key), ("i4", self.levels), ("i4", self.bits), ("u8", self.bucket))


def dither_encode(x: Any, wire: Any, levels: int, bucket: int, key: int) -> bool:
    """Write lengths of buckets, and levels at random; return whether all values are finite."""
    values, how = values_of("dither_encode", "x", x), Levels(levels, bucket, key)
    to = words_of("dither_encode", wire, how.bytes(values.size), values, written=True)
    if not values.size:
        return True
    found = Noted(values)
    codes = to.address + how.lengths(values.size)
    given = [values.address, values.size, how.passed(), to.address, codes, found.address]
    start(f"encode_levels<{C_TYPES[values.dtype]}>", values, warps(values, bucket), given)
    return found.finite()


def dither_decode(wire: Any, out: Any, levels: int, bucket: int) -> None:
    """Fill `out` with levels in units of their bucket."""
    to, how = values_of("dither_decode", "out", out, written=True), Levels(levels, bucket)
    words = words_of("dither_decode", wire, how.bytes(to.size), to)
    if to.size:
        codes = words.address + how.lengths(to.size)
        given = [words.address, codes, how.passed(), to.address, to.size]
        start(f"decode_levels<{C_TYPES[to.dtype]}>", to, to.size, given)
