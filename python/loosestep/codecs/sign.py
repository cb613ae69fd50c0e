"""One bit a value: its sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from loosestep.codecs.base import Codec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loosestep.requests import Buffer


@dataclass(frozen=True, repr=False)
class Sign(Codec):
    """The sign of each value, times the mean size of all: x_i becomes sign(x_i) |x|_1 / d, and 0 counts as
    positive.

    It contracts: |Sign(x) - x|^2 = |x|^2 - |x|_1^2 / d <= (1 - 1/d) |x|^2; of normal values 0.36 |x|^2 is lost.
    The mean is summed in double and sent as float32.

    d values take 32 + d bits.

    >>> import numpy as np
    >>> x, wire, out = np.array([1.0, -2.0, 0.0, 3.0]), np.zeros(Sign().words(4)), np.zeros(4)
    >>> Sign().encode(x, wire)
    >>> Sign().decode(wire, out)
    >>> out.tolist()
    [1.5, -1.5, 1.5, 1.5]

    Reference: S. Karimireddy, Q. Rebjock, S. Stich, M. Jaggi, Error Feedback Fixes SignSGD, arXiv:1901.09847,
    section 4.
    """

    on_device: ClassVar[bool] = True

    def bits(self, count: int) -> int:
        return 32 + count

    def error(self, count: int) -> float:
        return 1 - 1 / max(count, 1)

    def encode(self, x: Buffer, wire: Buffer, seed: Sequence[int] = ()) -> None:
        self.refuse_unless(self.native(x).sign_encode(x, wire))

    def decode(self, wire: Buffer, out: Buffer) -> None:
        self.native(out).sign_decode(wire, out)
