"""Random rounding to whole levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from loosestep.codecs.base import Codec
from loosestep.foundation import checks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loosestep.requests import Buffer


@dataclass(frozen=True, repr=False)
class QSGD(Codec):
    """Random rounding to s levels: x_i becomes |x| sign(x_i) l_i / s, l_i one of the two next to s |x_i| / |x|.

    The upper one with the probability of what is left over, so that the mean over seeds is x. |x| is the length of
    a bucket, sent as float32. |QSGD(x) - x|^2 <= min(d / s^2, sqrt(d) / s) |x|^2 in the mean, d being the bucket.
    Error feedback and CHOCO divide what is decoded by 1 + that number, which contracts. Random numbers are those
    of Philox, by the place of a value.

    levels: s, 1 to 127.
    bucket: how many values share a length, a multiple of 8.

    d values take d ceil(log2(2 s + 1)) + 32 ceil(d / bucket) bits.

    >>> import numpy as np
    >>> x, wire, out = np.full(1000, 0.3), np.zeros(QSGD(1).words(1000)), np.zeros(1000)
    >>> QSGD(1).encode(x, wire, seed=(7,))
    >>> QSGD(1).decode(wire, out)
    >>> round(float(out.mean()), 1)
    0.3

    Reference: D. Alistarh et al., QSGD, arXiv:1610.02132, section 3.1; without its entropy coding.
    """

    unbiased: ClassVar[bool] = True
    on_device: ClassVar[bool] = True
    levels: int = 127
    bucket: int = 512

    def __post_init__(self) -> None:
        checks.integer("levels", self.levels, 1, 127)
        if checks.integer("bucket", self.bucket) % 8:
            raise ValueError(f"bucket must be a multiple of 8, got {self.bucket}")

    def bits(self, count: int) -> int:
        return count * (2 * self.levels).bit_length() + 32 * -(-count // self.bucket)

    def error(self, count: int) -> float:
        together = min(count, self.bucket)
        return float(min(together / self.levels**2, together**0.5 / self.levels))

    def encode(self, x: Buffer, wire: Buffer, seed: Sequence[int] = ()) -> None:
        self.refuse_unless(self.native(x).dither_encode(x, wire, self.levels, self.bucket, self.key(seed)))

    def decode(self, wire: Buffer, out: Buffer) -> None:
        self.native(out).dither_decode(wire, out, self.levels, self.bucket)
