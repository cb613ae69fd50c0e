"""What a buffer is: a numpy array, or one that lies on a card and has the names that numpy's arrays have."""

from __future__ import annotations

from typing import Any, TypeAlias, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray

Buffer: TypeAlias = NDArray[np.float32] | NDArray[np.float64]


def on_card(given: Any) -> bool:
    """Whether it lies on a card."""
    return hasattr(type(given), "__cuda_array_interface__")


def is_buffer(given: Any) -> TypeGuard[Buffer]:
    """Whether it is one."""
    return isinstance(given, np.ndarray) or on_card(given)


def here(buffer: Buffer) -> Buffer:
    """Its values in main memory: itself, or a copy of one that lies on a card."""
    if not on_card(buffer):
        return buffer
    copied: Buffer = cast("Any", buffer).numpy()
    return copied
