"""A few bits a value: the bin that it is in, decoded as the mean of the bin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loosestep import _core
from loosestep.codecs.base import Codec
from loosestep.foundation import checks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loosestep.requests import Buffer


@dataclass(frozen=True, repr=False)
class Bins(Codec):
    """Bins around the mean m: x is in bin round((x - m) / (6 s / B) + B / 2), from 0 to B - 1; s is the deviation.

    It becomes the mean of all values in its bin, so that the sum of all stays what it is. The format contracts,
    for few values much and for many in the worst case little: by 1 - 3/B sqrt((1 - 9/B^2) / d).

    bits_each: bits of a value, log2 B, from 2 to 8.

    d values take 32 B + d log2 B bits.

    >>> import numpy as np
    >>> x, wire, out = np.array([1.0, 1.1, -2.0, 0.1]), np.zeros(Bins().words(4)), np.zeros(4)
    >>> Bins().encode(x, wire)
    >>> Bins().decode(wire, out)
    >>> out.round(3).tolist()
    [1.05, 1.05, -2.0, 0.1]

    Reference: the quantizer of SparseLoCo's release (templar, compress.py), whose table holds the same means less
    the mean of all, and that mean; A. Sarfi et al., arXiv:2508.15706.
    """

    bits_each: int = 2

    def __post_init__(self) -> None:
        checks.integer("bits_each", self.bits_each, 2, 8)

    def bits(self, count: int) -> int:
        return count * self.bits_each + (32 << self.bits_each)

    def error(self, count: int) -> float:
        """Return the worst case: values beyond a distance w = 3 s / B of the mean have most of the squares.

        Of a bin on one side of m with squares E, the mean keeps at least w sqrt(E); and E is at least
        d s^2 (1 - 9 / B^2) in all of those bins.
        """
        bins = 1 << self.bits_each
        return float(1 - 3 / bins * ((1 - 9 / bins**2) / max(count, 1)) ** 0.5)

    def encode(self, x: Buffer, wire: Buffer, seed: Sequence[int] = ()) -> None:
        self.refuse_unless(_core.codecs.bins_encode(x, wire, self.bits_each))

    def decode(self, wire: Buffer, out: Buffer) -> None:
        _core.codecs.bins_decode(wire, out, self.bits_each)
