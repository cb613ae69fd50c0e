"""Compiled kernels on disk: one file each, found by the checksum of all that went into it.

They lie in `$LOOSESTEP_CACHE_DIR`, else in `~/.cache/loosestep` (or `$XDG_CACHE_HOME/loosestep`). Any of it may be
deleted at any time. Processes may share it: a file is written elsewhere and then moved to its place.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

from loosestep.cuda import nvrtc, sources


class Kept(NamedTuple):
    """A kernel on disk: the file, and the kernel's name in it."""

    file: Path
    name: str


def folder() -> Path:
    """Return the folder of compiled kernels."""
    given = os.environ.get("LOOSESTEP_CACHE_DIR")
    general = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return (Path(given) if given else Path(general, "loosestep")) / "kernels"


def kept(file: str, kernel: str, architecture: str, major: int | None = None) -> Kept:
    """Return a kernel for an architecture from the cache, or compile it. major: of the CUDA that will load it."""
    compiler = nvrtc.compiler((major,) if major else nvrtc.MAJORS)
    inputs = (sources.digest(), *nvrtc.OPTIONS, compiler.version, file, kernel, architecture)
    place = folder() / hashlib.sha256("\n".join(inputs).encode()).hexdigest()[:32]
    found = next(place.glob("*.cubin"), None)
    if found is None:
        made = compiler.compiled(file, [kernel], architecture)
        found = written(place / f"{made.names[0]}.cubin", made.cubin)
    return Kept(found, found.stem)


def written(place: Path, content: bytes) -> Path:
    """Write the file in one move, so that no reader ever sees a part of it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=place.parent, suffix=".part")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(name).replace(place)
    return place


def state() -> tuple[int, int]:
    """Return how many kernels are cached, and their bytes; of any version."""
    sizes = [file.stat().st_size for file in folder().glob("*/*.cubin")]
    return len(sizes), sum(sizes)
