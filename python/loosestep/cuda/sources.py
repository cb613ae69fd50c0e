"""The kernels' text, as it was installed beside the native core, and what tells one version from another."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from loosestep import _core


def folder() -> Path:
    """Holds `kernels/` and `rules/`: what a compiler is told to include from."""
    return Path(_core.__file__).parent / "_cuda"


@cache
def digest() -> str:
    """Of every file that a kernel may include: a compiled kernel is kept under it, so an upgrade compiles anew."""
    found = hashlib.sha256()
    for file in sorted(path for path in folder().rglob("*") if path.is_file()):
        found.update(str(file.relative_to(folder())).encode() + b"\0" + file.read_bytes() + b"\0")
    return found.hexdigest()
