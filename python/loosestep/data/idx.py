"""The IDX format of the MNIST family: two zero bytes, a type, how many dimensions, the sizes, the bytes."""

from __future__ import annotations

import gzip
import struct
import zlib
from math import prod
from typing import IO, TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[Any]"
UNSIGNED_BYTE = 8
DIMENSIONS = 8
"""At most; the family has 1 (labels) and 3 (pictures)."""
RATIO = 1100
"""Bytes that a byte of a gzip file may stand for are fewer: deflate packs at most 1032 into one."""


def read(path: Path) -> Array:
    """Return the array of unsigned bytes in a gzipped IDX file; unpack no more than its header promises."""
    try:
        with gzip.open(path) as file:
            shape = _shape(cast("IO[bytes]", file), path)
            count, most = prod(shape), RATIO * path.stat().st_size
            content = file.read(min(count, most) + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: not a complete gzip file ({error})") from error
    if len(content) != count:
        found = f"{len(content)} bytes" if len(content) < count else "more bytes"
        raise ValueError(f"{path}: {found} where the header promises shape {shape}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _shape(file: IO[bytes], path: Path) -> tuple[int, ...]:
    """Return the shape that the header promises."""
    began = file.read(4)
    if len(began) < 4 or began[:3] != bytes((0, 0, UNSIGNED_BYTE)):
        raise ValueError(f"{path}: not an IDX file of unsigned bytes (it begins with {began.hex() or 'nothing'})")
    dimensions = began[3]
    if not 1 <= dimensions <= DIMENSIONS:
        raise ValueError(f"{path}: {dimensions} dimensions, where 1 to {DIMENSIONS} are wanted")
    sizes = file.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise ValueError(f"{path}: ends within its header, after {4 + len(sizes)} bytes")
    return struct.unpack(f">{dimensions}I", sizes)
