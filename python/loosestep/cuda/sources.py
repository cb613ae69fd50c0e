"""The kernels' text, installed beside the native core, and a checksum that tells versions apart."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from loosestep import _core


def folder() -> Path:
    """Return the folder that holds `kernels/` and `rules/`, from which a compiler includes."""
    return Path(_core.__file__).parent / "_cuda"


@cache
def digest() -> str:
    """Return a checksum of every file that a kernel may include, so that an upgrade compiles anew."""
    found = hashlib.sha256()
    for file in sorted(path for path in folder().rglob("*") if path.is_file()):
        found.update(str(file.relative_to(folder())).encode() + b"\0" + file.read_bytes() + b"\0")
    return found.hexdigest()
