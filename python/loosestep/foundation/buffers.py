"""Flat buffers whose addresses never change: parameters, gradients and strategy state live in them.

They are plain numpy arrays, zeroed, 64-byte aligned. From 2 MiB on they lie in huge pages of their own where
the system gives them (10-50 % on large ops), each begins at another place of its first page (up to 20 % on
ops of four buffers), and the threads that ops use touch them first. The memory goes when the last array that
looks at it goes. What is made like a buffer on a device is on that device, too, and what is made like one in
an arena, memory that all ranks of a host map, is in that arena, as far as it has room.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, TypeGuard, TypeVar, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from loosestep import _core

ALIGNMENT = 64
"""Bytes: every buffer and every slot of a flat one begins at a multiple."""

Scalar = TypeVar("Scalar", np.float32, np.float64)
Buffer: TypeAlias = NDArray[np.float32] | NDArray[np.float64]


class Arena(Protocol):
    """Memory in which buffers are made like those that lie in it."""

    def holds(self, array: NDArray[Any]) -> bool:
        """Return whether an array lies in it."""

    def allocate(self, size: int) -> NDArray[np.uint8] | None:
        """Return so many zeroed bytes, aligned; None where there is no room."""


ARENAS: list[Arena] = []
"""Those of this process that are open."""

ARENA_FROM = 16 << 10
"""Bytes: smaller buffers are never in an arena, where each takes pages of its own."""


def is_on_device(given: Any) -> bool:
    """Return whether the array lies on a device (a GPU)."""
    return hasattr(type(given), "__cuda_array_interface__")


def is_buffer(given: Any) -> TypeGuard[Buffer]:
    """Return whether this is a buffer: a numpy array, or an array on a device."""
    return isinstance(given, np.ndarray) or is_on_device(given)


def here(buffer: Buffer) -> Buffer:
    """Return the buffer itself if it is in main memory, else a copy of it in main memory."""
    if not is_on_device(buffer):
        return buffer
    copied: Buffer = cast("Any", buffer).numpy()
    return copied


def zeros(n: int, dtype: DTypeLike = np.float32) -> Buffer:
    """Return a buffer of n zeros."""
    kind = np.dtype(dtype)
    if kind not in (np.float32, np.float64):
        raise TypeError(f"dtype must be float32 or float64, got {kind}")
    if n < 0:
        raise ValueError(f"n must be at least 0, got {n}")
    size = n * kind.itemsize
    try:
        return _core.allocate(size).view(kind)
    except (MemoryError, OverflowError, TypeError) as error:  # the latter two: no 64 bits hold the size
        raise MemoryError(f"{n} numbers of {kind} are {size / 2**30:,.4g} GiB, which cannot be had") from error


def empty(n: int, dtype: DTypeLike = np.float32) -> Buffer:
    """Return a buffer of n elements that the caller will write. (They are zeros, since its pages were touched.)"""
    return zeros(n, dtype)


def like(x: Buffer, size: int | None = None, dtype: DTypeLike | None = None) -> Buffer:
    """Return a flat buffer of zeros with x's dtype, on its device, of `size` elements or as many as x has.

    dtype: another one than x's.
    """
    size, kind = x.size if size is None else size, x.dtype if dtype is None else np.dtype(dtype)
    if is_on_device(x):
        there: Buffer = cast("Any", x).like(size) if kind == x.dtype else cast("Any", x).like(size, kind)
        return there
    for arena in ARENAS:
        if arena.holds(x):
            return zeros_in(arena, size, kind)
    return zeros(size, kind)


def zeros_in(arena: Arena, n: int, dtype: DTypeLike) -> Buffer:
    """Return a buffer of n zeros in an arena; in private memory where it is small or there is no room."""
    kind = np.dtype(dtype)
    size = n * kind.itemsize
    made = arena.allocate(size) if size >= ARENA_FROM else None
    return zeros(n, kind) if made is None else made.view(kind)


def copy_of(x: Buffer) -> Buffer:
    """Return a flat buffer with the values of x."""
    copy = like(x)
    copy[:] = x.reshape(-1)
    return copy


def flat(arrays: Sequence[NDArray[Scalar]]) -> tuple[NDArray[Scalar], list[NDArray[Scalar]]]:
    """Return one buffer with a copy of every array, and the views of it that take their places.

    Slots begin at 64-byte boundaries; the padding between them is zero and stays out of norms.

        buffer, (weights, bias) = flat([weights, bias])
    """
    if not arrays:
        raise ValueError("arrays must hold at least 1 array, got 0")
    kinds = {array.dtype for array in arrays}
    if len(kinds) > 1:
        raise TypeError(f"arrays must be of one type, got {', '.join(sorted(map(str, kinds)))}")
    slots = places([array.nbytes for array in arrays])
    buffer: NDArray[Scalar] = zeros(slots[-1] // arrays[0].itemsize, arrays[0].dtype)  # type: ignore[assignment]
    views = [_view(buffer, start, array) for start, array in zip(slots, arrays, strict=False)]
    return buffer, views


def places(sizes: Sequence[int]) -> list[int]:
    """Return where each slot begins, in bytes, and where the last one ends."""
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + -(-size // ALIGNMENT) * ALIGNMENT)
    return starts


def _view(buffer: NDArray[Scalar], start: int, array: NDArray[Scalar]) -> NDArray[Scalar]:
    first = start // array.itemsize
    view = buffer[first : first + array.size].reshape(array.shape)
    view[...] = array
    return view
