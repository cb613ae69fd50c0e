"""One worker's part of a checkpoint: tensors and facts in one safetensors file, and what it belongs to.

Format 2: the header's only entry, `loosestep`, is JSON: run, step, rank, facts. The manifest knows size and
checksum of the whole file. Format 1, which is read still: entries `facts` and `checks`, a CRC-32 of the facts and
of each tensor.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from loosestep.foundation.errors import CheckpointError, Damaged
from loosestep.runtime.checkpoint import disk

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

Facts = dict[str, Any]
Tensors = dict[str, Any]

NUMBERS = frozenset(
    {
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "complex64"),
    }
)
"""What safetensors can keep of numpy's types."""

UNREADABLE = (
    OSError,
    SafetensorError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""What reading a file of unknown content may raise."""


def packed(tensors: Tensors, facts: Facts, belongs: Facts) -> bytes:
    """Return the content of a file. Raises CheckpointError that names what cannot be written."""
    for name, tensor in tensors.items():
        if tensor.dtype.name not in NUMBERS:
            raise CheckpointError(f"{name} is of {tensor.dtype}, which a checkpoint cannot keep")
    about = json.dumps({**belongs, "facts": facts})
    return save({name: in_order(tensor) for name, tensor in tensors.items()}, metadata={"loosestep": about})


def in_order(tensor: NDArray[Any]) -> NDArray[Any]:
    """Return the tensor with C-ordered memory and its own shape, since safetensors writes memory as it lies."""
    return np.ascontiguousarray(tensor).reshape(tensor.shape)


def check_whole(path: Path, written: tuple[int, int]) -> None:
    """Refuse a file whose (size, checksum) are not those that were written."""
    try:
        size, check = disk.measure(path)
    except OSError as error:
        raise unreadable(path, error) from error
    if size != written[0]:
        raise Damaged(
            f"{path} cannot be read as a checkpoint: it holds {size} bytes, and {written[0]} were written"
        )
    if check != written[1]:
        raise Damaged(f"{path} is damaged: it does not match its checksum")


def read(path: Path, belongs: Facts) -> tuple[Tensors, Facts]:
    """Return tensors and facts of a file of format 2, which must belong to that run, step and rank."""
    tensors, entries = opened(path)
    try:
        about = json.loads(entries["loosestep"])
        facts = about.pop("facts")
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    for name, wanted in belongs.items():
        if about.get(name) != wanted:
            raise Damaged(f"{path} belongs to {name} {about.get(name)}, and {name} {wanted} was wanted")
    return tensors, facts


def read_first_format(path: Path) -> tuple[Tensors, Facts]:
    """Return tensors and facts of a file of format 1."""
    tensors, entries = opened(path)
    try:
        facts, checks = json.loads(entries["facts"]), dict(json.loads(entries["checks"]))
        content: dict[str, Any] = {"facts": entries["facts"].encode()}
    except UNREADABLE as error:
        raise unreadable(path, error) from error
    content.update((name, in_order(tensor).data) for name, tensor in tensors.items())
    for name in {*checks, *content}:
        if name not in content or name not in checks or crc32(content[name]) != checks[name]:
            raise Damaged(f"{path} is damaged: {name} does not match its checksum")
    return tensors, facts


def opened(path: Path) -> tuple[Tensors, dict[str, str]]:
    """Return all tensors of a file, and the entries of its header."""
    try:
        disk.check_regular(path)
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except UNREADABLE as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> CheckpointError:
    """Return the error of an unreadable file: `Damaged`, unless only the permission to read it is missing."""
    kind = CheckpointError if isinstance(error, PermissionError) else Damaged
    why = disk.reason(error) if isinstance(error, OSError) else error
    return kind(f"{path} cannot be read as a checkpoint: {why}")
