"""The IDX format of the MNIST family: two zero bytes, a type, how many dimensions, the sizes, the bytes."""

from __future__ import annotations

import gzip
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
    shape = tuple(int(size) for size in np.frombuffer(content[4:start][: (start - 4) // 4 * 4], ">u4"))
    if len(shape) < content[3] or len(content) - start != prod(shape):
        found = max(0, len(content) - start)
        raise ValueError(f"{name}: {found} bytes where the header promises shape {shape}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
