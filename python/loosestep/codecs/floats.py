"""Floating-point numbers of 8 and 16 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from loosestep.codecs.base import Codec
from loosestep.foundation import checks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loosestep.requests import Buffer

BLOCK = 256
"""Values that share a power of two."""


def rounding(fraction: int, octaves: int) -> float:
    """Return the error of bits behind the point, and of what is so many octaves below a block's largest value."""
    return 4.0 ** -(fraction + 1) + (BLOCK - 1) * 4.0 ** -(octaves + fraction)


@dataclass(frozen=True, repr=False)
class Float16(Codec):
    """IEEE 754 binary16, ties to even, each block of 256 values times a power of two that travels with it.

    The power 2^(15 - e), e the least with all |x| < 2^e, brings a block's largest value to the upper end of the
    format, so that neither large values overflow nor small ones vanish: a value changes by 2^-11 of itself or by
    2^-40 of the block's largest. e is at least -100 for float32, -1000 for float64, which is rounded as float32.

    d values take 16 d + 16 ceil(d / 256) bits.

    >>> import numpy as np
    >>> x, wire, out = np.array([1e9, -1.0]), np.zeros(Float16().words(2)), np.zeros(2)
    >>> Float16().encode(x, wire)
    >>> Float16().decode(wire, out)
    >>> out.tolist()
    [999817216.0, -1.0]

    Reference: IEEE 754-2019, section 3.6; blocks are this library's.
    """

    on_device: ClassVar[bool] = True

    def bits(self, count: int) -> int:
        return 16 * (count + -(-count // BLOCK))

    def error(self, count: int) -> float:
        return rounding(10, 29)

    def encode(self, x: Buffer, wire: Buffer, seed: Sequence[int] = ()) -> None:
        self.refuse_unless(self.native(x).encode("float16", x, wire))

    def decode(self, wire: Buffer, out: Buffer) -> None:
        self.native(out).decode("float16", wire, out)


@dataclass(frozen=True, repr=False)
class BFloat16(Codec):
    """The upper half of a float32, ties to even: 8 bits of exponent and 7 behind the point.

    A value changes by 2^-8 of itself at most. Values beyond the largest number of the format, 3.39e38, become that
    number.

    d values take 16 d bits.

    >>> import numpy as np
    >>> x, wire, out = np.array([1.0, -0.1]), np.zeros(BFloat16().words(2)), np.zeros(2)
    >>> BFloat16().encode(x, wire)
    >>> BFloat16().decode(wire, out)
    >>> out.tolist()
    [1.0, -0.10009765625]

    Reference: D. Kalamkar et al., A Study of BFLOAT16 for Deep Learning Training, arXiv:1905.12322.
    """

    on_device: ClassVar[bool] = True

    def bits(self, count: int) -> int:
        return 16 * count

    def error(self, count: int) -> float:
        return 4.0**-8

    def encode(self, x: Buffer, wire: Buffer, seed: Sequence[int] = ()) -> None:
        self.refuse_unless(self.native(x).encode("bfloat16", x, wire))

    def decode(self, wire: Buffer, out: Buffer) -> None:
        self.native(out).decode("bfloat16", wire, out)


@dataclass(frozen=True, repr=False)
class Float8(Codec):
    """E4M3 or E5M2 of 8 bits, ties to even, each block of 256 values times a power of two that travels with it.

    As `Float16`; a value changes by 2^-4 of itself (E5M2: 2^-3), or by 2^-17 (2^-32) of the block's largest.

    format: 'e4m3', 4 bits of exponent and 3 behind the point, or 'e5m2', 5 and 2.

    d values take 8 d + 16 ceil(d / 256) bits.

    >>> import numpy as np
    >>> x, wire, out = np.array([1.0, -0.1]), np.zeros(Float8().words(2)), np.zeros(2)
    >>> Float8().encode(x, wire)
    >>> Float8().decode(wire, out)
    >>> out.tolist()
    [1.0, -0.1015625]

    Reference: P. Micikevicius et al., FP8 Formats for Deep Learning, arXiv:2209.05433; blocks are this library's.
    """

    on_device: ClassVar[bool] = True
    format: Literal["e4m3", "e5m2"] = "e4m3"

    def __post_init__(self) -> None:
        checks.one_of("format", self.format, ("e4m3", "e5m2"))

    def bits(self, count: int) -> int:
        return 8 * count + 16 * -(-count // BLOCK)

    def error(self, count: int) -> float:
        return rounding(3, 13) if self.format == "e4m3" else rounding(2, 29)

    def encode(self, x: Buffer, wire: Buffer, seed: Sequence[int] = ()) -> None:
        self.refuse_unless(self.native(x).encode(self.format, x, wire))

    def decode(self, wire: Buffer, out: Buffer) -> None:
        self.native(out).decode(self.format, wire, out)
