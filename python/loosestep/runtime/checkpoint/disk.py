"""Every operation of a checkpoint on the disk, each a function, so that a test can let each of them fail."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from stat import S_ISREG
from zlib import crc32

CHUNK = 1 << 20  # bytes read at once


def replace(path: Path, content: bytes) -> None:
    """Write a file so that it holds all of the content or what it held before, also after a loss of power."""
    draft = path.with_suffix(path.suffix + ".part")
    write(draft, content)
    move(draft, path)
    settle(path.parent)


def write(path: Path, content: bytes) -> None:
    """Write a file, and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def move(draft: Path, path: Path) -> None:
    """Let a file take another's name, in one step."""
    draft.replace(path)


def settle(folder: Path) -> None:
    """Wait until the disk has the names in a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, as far as they are missing."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    settle(path.parent)


def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    path.unlink(missing_ok=True)


def remove_folder(path: Path) -> None:
    """Remove a folder and all in it; where that is refused, say so and leave the rest."""
    try:
        shutil.rmtree(path)
    except OSError as error:
        if path.exists():
            print(f"cannot remove {path}: {reason(error)}; it is no longer needed", file=sys.stderr, flush=True)


def read(path: Path) -> bytes:
    """Return what a file holds. Raises OSError, also for what is no file: a device may have no end."""
    check_regular(path)
    return path.read_bytes()


def measure(path: Path) -> tuple[int, int]:
    """Return how many bytes a file holds, and their CRC-32. Raises OSError, also for what is no file."""
    check_regular(path)
    size = check = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            size, check = size + len(chunk), crc32(chunk, check)
    return size, check


def check_regular(path: Path) -> None:
    """Refuse folders, pipes and devices."""
    if not S_ISREG(path.stat().st_mode):
        raise OSError(f"{path.name} is no file")


def reason(error: OSError) -> str:
    """Return why, without the path, which the sentence around it names."""
    return error.strerror or str(error)
