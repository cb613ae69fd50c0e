"""Data sets by name. A set is a module in `sets` with `FILES` and `read(folder)`; a new one is found there."""

from __future__ import annotations

from difflib import get_close_matches
from functools import partial
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from loosestep.data import npz, sets

if TYPE_CHECKING:
    from collections.abc import Callable

    from loosestep.data.dataset import Dataset


def names() -> list[str]:
    """Return the names of the data sets that `load` knows, beside files."""
    return sorted(module.name.replace("_", "-") for module in iter_modules(sets.__path__))


def find(name: str, folder: str | Path | None = None) -> Callable[[], Dataset]:
    """Return a function that reads the data set; raise now if there is none of that name."""
    if name.endswith(".npz"):
        if folder is not None:
            raise ValueError(f"{name} is a file itself and is read from no folder, got {folder}")
        if not Path(name).is_file():
            raise ValueError(f"there is no file {name}")
        return partial(npz.read, Path(name))
    if name not in names():
        near = "".join(f"; did you mean {other}?" for other in get_close_matches(name, names(), 1))
        known = ", ".join(names())
        raise ValueError(f"unknown data set {name!r} (there are {known}, and FILE.npz){near}")
    module = import_module(f"{sets.__name__}.{name.replace('-', '_')}")
    if folder is not None and not module.FILES:
        raise ValueError(f"{name} has no files that could be in a folder, got {folder}")
    return partial(module.read, None if folder is None else Path(folder))


def load(name: str, folder: str | Path | None = None) -> Dataset:
    """Return the data set of that name, or in that .npz file; `folder` is where a set's own files are."""
    return find(name, folder)()
