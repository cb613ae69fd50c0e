"""What all workers of a process compute of the same values, computed by the first of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from loosestep import ops

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from loosestep.requests import Buffer


class Memo:
    """The last result of a computation, and of what it was made: who asks for it of the same bits gets a copy.

    It is for workers that take turns in one thread. All in it is in main memory.
    """

    def __init__(self) -> None:
        self.kept: tuple[object, NDArray[np.uint8], Buffer] | None = None  # key, given and result

    def fill(self, key: object, given: Buffer, out: Buffer, compute: Callable[[], object]) -> None:
        """Set `out` to what `compute` sets it to.

        key: all that the result depends on besides the values in `given`.
        """
        bits = given.view(np.uint8)  # words of codecs may look like NaN, and 0 and -0 are different ones
        key = key, out.size, out.dtype
        if self.kept is not None and self.kept[0] == key and np.array_equal(self.kept[1], bits):
            ops.copy(self.kept[2], out)
            return
        compute()
        self.kept = key, bits.copy(), out.copy()
