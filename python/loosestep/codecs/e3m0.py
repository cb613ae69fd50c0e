"""Four bits a value: a sign and a power of two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from loosestep.codecs.base import Codec

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    most, since its power of two would overflow. top is at least -100 for float32, -1000 for float64.

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

    on_device: ClassVar[bool] = True

    def bits(self, count: int) -> int:
        return 8 * (-(-count // 2) + 2 * -(-count // BLOCK))

    def error(self, count: int) -> float:
        """Return (1/3)^2, and (2^-7 / 0.75)^2 for each of the 63 values of a block that may become 0."""
        return 1 / 9 + (BLOCK - 1) * (2**-7 / 0.75) ** 2

    def encode(self, x: Buffer, wire: Buffer, seed: Sequence[int] = ()) -> None:
        self.refuse_unless(self.native(x).encode("e3m0", x, wire))

    def decode(self, wire: Buffer, out: Buffer) -> None:
        self.native(out).decode("e3m0", wire, out)
