"""Four bits a value: a sign and a power of two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from loosestep.codecs.base import Codec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from loosestep.requests import Buffer

BLOCK = 64
"""Values that share an exponent."""


@dataclass(frozen=True, repr=False)
class E3M0(Codec):
    """A sign and three bits of exponent: x becomes the nearest of 0 and +-2^(top + c - 7), c from 1 to 7.

    2^top is the power of two nearest to the largest of a block of 64 values, and travels with it in 16 bits;
    between two neighbours the larger is taken from the middle on. So the seven highest powers of two of a block
    stay what they are, what lies between them changes by a third at most, and what is below 2^(top - 7) is 0.
    The format contracts: |E3M0(x) - x|^2 <= 0.118 |x|^2. A value above 3/4 of the largest of its type is halved at
    most, since its power of two would overflow.

    d values take ceil(d / 2) + 2 ceil(d / 64) bytes, rounded up to words of 8.

    >>> import numpy as np
    >>> x, wire = np.array([1.0, -0.3, 0.2, 0.01, 0.001]), np.zeros(E3M0().words(5))
    >>> E3M0().encode(x, wire)
    >>> out = np.zeros(5)
    >>> E3M0().decode(wire, out)
    >>> out.tolist()
    [1.0, -0.25, 0.25, 0.015625, 0.0]

    Reference: the format of A. Douillard, Y. Donchev et al., Streaming DiLoCo with overlapping communication,
    arXiv:2501.18512; blocks, their exponent and the rounding are this library's definition.
    """

    def bits(self, count: int) -> int:
        return 8 * (-(-count // 2) + 2 * -(-count // BLOCK))

    def error(self, count: int) -> float:
        """Return (1/3)^2, and (2^-7 / 0.75)^2 for each of the 63 values of a block that may become 0."""
        return 1 / 9 + (BLOCK - 1) * (2**-7 / 0.75) ** 2

    def encode(self, x: Buffer, wire: Buffer, seed: Sequence[int] = ()) -> None:
        self.check_finite(x)
        tops, nibbles = parts(wire, x.size)
        rows = np.zeros((tops.size, BLOCK), x.dtype)
        rows.reshape(-1)[: x.size] = x
        codes = coded(rows, tops).reshape(-1)[: 2 * nibbles.size]
        nibbles[:] = codes[0::2] | codes[1::2] << 4

    def decode(self, wire: Buffer, out: Buffer) -> None:
        tops, nibbles = parts(wire, out.size)
        codes = np.zeros(tops.size * BLOCK, np.uint8)
        codes[0 : 2 * nibbles.size : 2], codes[1 : 2 * nibbles.size : 2] = nibbles & 15, nibbles >> 4
        level = (codes & 7).reshape(-1, BLOCK).astype(np.int32)
        values = np.where(level, np.ldexp(1.0, tops[:, None] + level - 7), 0.0).reshape(-1)
        out[...] = np.where(codes & 8, -values, values)[: out.size]


def parts(wire: Buffer, count: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Return the exponents of the blocks and the pairs of codes, as views of the words."""
    raw, head = wire.view(np.uint8), 2 * -(-count // BLOCK)
    return raw[:head].view(np.int16), raw[head : head - (-count // 2)]


def coded(rows: NDArray[Any], tops: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Return the code of every value, and write the blocks' exponents into `tops`."""
    sizes = np.abs(rows)
    tops[:] = np.minimum(exponents(sizes.max(axis=1)), np.finfo(rows.dtype).maxexp - 1)
    level = np.minimum(exponents(sizes) - tops[:, None] + 7, 7)
    lowest = sizes >= np.ldexp(1.0, tops.astype(np.int32) - 7)[:, None]
    codes: NDArray[np.uint8] = np.where(level >= 1, level, lowest).astype(np.uint8)
    codes[rows == 0] = 0
    codes[np.signbit(rows)] |= 8
    return codes


def exponents(sizes: NDArray[Any]) -> NDArray[np.int32]:
    """Return the exponents of the nearest powers of two."""
    fraction, exponent = np.frexp(sizes)
    nearest: NDArray[np.int32] = exponent - (fraction < 0.75)
    return nearest
