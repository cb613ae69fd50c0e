"""Files that a run writes. Files of the same name are replaced, and never left half written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
import numpy as np

from loosestep.foundation.files import replace
from loosestep.transports.wrapper import Wrapper

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from numpy.typing import NDArray

    from loosestep.transports.base import Transport


def speaks(on: Transport | None) -> bool:
    """Return whether this process prints and writes results: of the processes of a job, rank 0 does."""
    while isinstance(on, Wrapper):  # as Delayed(MPI()) is
        on = on.on
    return getattr(on, "rank", 0) == 0


def check_folders(*names: str | None) -> None:
    """Refuse files that cannot be written for want of a folder; None and - (standard output) are none."""
    for name in names:
        if name not in (None, "-") and not Path(str(name)).parent.is_dir():
            raise click.UsageError(f"cannot write {name}: there is no folder {Path(str(name)).parent}")


def dumped(content: Any) -> str:
    """Return any content as indented JSON text."""
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def write_json(file: str, content: Any) -> None:
    """Write any content as JSON."""
    replace(Path(file), dumped(content).encode())


def write_tensors(file: str, arrays: Mapping[str, NDArray[np.generic]], about: Mapping[str, str]) -> None:
    """Write arrays by name, as safetensors. The same content gives the same bytes."""
    from safetensors.numpy import save  # not needed by anything else here

    in_order = {
        name: np.ascontiguousarray(array) for name, array in arrays.items()
    }  # memory is written as it lies
    described = {"loosestep": json.dumps(about)}  # one entry, for the library writes several in any order
    replace(Path(file), save(in_order, described))


class Lines:
    """A file of JSON lines, each on disk as soon as it is added; without a folder, nothing."""

    def __init__(self, folder: str | None, *, more: bool = False) -> None:
        self.path = Path(folder) / "metrics.jsonl" if folder else None
        self.mode = "a" if more else "w"
        self.file: IO[str] | None = None

    def __enter__(self) -> Lines:
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.path.open(self.mode, encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.file:
            self.file.close()

    def add(self, row: Mapping[str, Any]) -> None:
        """Add one line."""
        if self.file:
            self.file.write(json.dumps(row, allow_nan=False) + "\n")
            self.file.flush()
