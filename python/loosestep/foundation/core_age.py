"""Warn developers whose compiled core is older than its sources."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from loosestep import _core

SOURCES = ("csrc", "kernels")


def warn_if_old(package: str = str(Path(__file__).parents[1]), core: str = _core.__file__) -> None:
    """Warn if sources beside the package have changed since the core was built; an installed wheel has none."""
    checkout = os.path.dirname(os.path.dirname(package))
    if not os.path.isdir(os.path.join(checkout, SOURCES[0])):
        return
    changed, newest = max(changes([os.path.join(checkout, name) for name in SOURCES]), default=(0.0, ""))
    if changed > os.path.getmtime(core):
        warnings.warn(
            f"loosestep's compiled core is older than {newest}: what runs is the old one. "
            f"Build it again: pip install -e {checkout}",
            stacklevel=3,
        )


def changes(folders: list[str]) -> Iterator[tuple[float, str]]:
    """Yield when each file below the folders changed last, and its path, but for hidden ones, as editors make."""
    for folder in folders:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    yield from changes([entry.path])
                else:
                    yield entry.stat().st_mtime, entry.path
