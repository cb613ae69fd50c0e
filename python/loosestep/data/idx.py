"""The IDX format of the MNIST family: two zero bytes, a type, how many dimensions, the sizes, the bytes."""

from __future__ import annotations

import gzip
import struct
import zlib
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[Any]"
UNSIGNED_BYTE = 8


def read(path: Path) -> Array:
    """The array of unsigned bytes in a gzipped IDX file."""
    try:
        with gzip.open(path) as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: not a complete gzip file ({error})") from error
    return parse(content, str(path))


def parse(content: bytes, name: str) -> Array:
    """The array in the bytes of an IDX file; `name` is for errors."""
    if len(content) < 4 or content[:3] != bytes((0, 0, UNSIGNED_BYTE)):
        began = content[:4].hex() or "nothing"
        raise ValueError(f"{name}: not an IDX file of unsigned bytes (it begins with {began})")
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise ValueError(f"{name}: ends within its header, after {len(content)} bytes")
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    if len(content) - start != prod(shape):
        raise ValueError(f"{name}: {len(content) - start} bytes where the header promises shape {shape}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
