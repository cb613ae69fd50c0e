"""Data sets in one .npz file."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from loosestep.data.dataset import Dataset, split

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

WANTED = ("x_train", "y_train", "x_test", "y_test")


def read(path: Path) -> Dataset:
    """Return x_train, y_train, x_test, y_test; or of x and y a fifth for testing. Never unpickles."""
    arrays = _arrays(path)
    if {"x", "y"} <= arrays.keys():
        whole = arrays["x"], arrays["y"]
        _same_length(path, *whole)
        return Dataset(str(path), *split(*whole))
    missing = [name for name in WANTED if name not in arrays]
    if missing:
        found = ", ".join(arrays) or "nothing"
        wanted = f"wanted {', '.join(WANTED)} or x, y; found {found}"
        raise ValueError(f"{path}: {', '.join(missing)} missing; {wanted}")
    return Dataset(str(path), *(arrays[name] for name in WANTED))


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return all arrays of the file that belong to a data set."""
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: not a complete .npz file (no archive of arrays)")
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: _array(path, file, name) for name in file.files}
    except Exception as error:  # whatever a damaged archive makes its readers raise
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: not a complete .npz file ({error})") from error


def _array(path: Path, file: Any, name: str) -> NDArray[Any]:
    try:
        array: NDArray[Any] = file[name]
    except MemoryError as error:
        raise ValueError(f"{path}: {name} is larger than memory, or its header is damaged ({error})") from error
    except Exception as error:  # unpacking and header alike raise many kinds
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path}: {name} cannot be read as a plain array ({what})") from error
    return array


def _same_length(path: Path, x: NDArray[Any], y: NDArray[Any]) -> None:
    if x.ndim == 0 or y.ndim != 1 or len(x) != len(y):
        raise ValueError(f"{path}: x has shape {x.shape} but y has shape {y.shape}; wanted one label a row")
    if len(y) < 5:
        raise ValueError(f"{path}: x has {len(y)} rows, too few to keep a fifth for testing (5 at least)")
