"""What a job's ranks need beside the library: which wire joins them, and a way to tell each other something."""

from __future__ import annotations

import os
import pickle
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import loosestep as ls

BY_ZMQ = "LOOSESTEP_ADDRESS" in os.environ
Processes: Any = ls.ZMQ if BY_ZMQ else ls.MPI
"""The transport of whatever has started this process."""
PATIENCE = 240.0


class Files:
    """Of MPI's world what tests use, by files in a folder that all ranks see."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.rank, self.size, self.calls = ls.ZMQ().rank, ls.ZMQ().size, 0

    def put(self, name: str, what: Any) -> None:
        part = self.folder / f"{name}.part-{self.rank}"
        part.write_bytes(pickle.dumps(what))
        part.rename(self.folder / name)

    def get(self, name: str) -> Any:
        until = time.monotonic() + PATIENCE
        while not (self.folder / name).exists():
            assert time.monotonic() < until, f"rank {self.rank} waits for {name}"
            time.sleep(1e-3)
        return pickle.loads((self.folder / name).read_bytes())

    def scatter(self, values: Any, root: int) -> Any:
        self.calls += 1
        if self.rank == root:
            self.put(f"scatter-{self.calls}", values)
        return self.get(f"scatter-{self.calls}")[self.rank]

    def Barrier(self) -> None:  # noqa: N802
        self.calls += 1
        self.put(f"barrier-{self.calls}-{self.rank}", None)
        for rank in range(self.size):
            self.get(f"barrier-{self.calls}-{rank}")


@cache
def world() -> Any:
    """Return MPI's world, or what stands in for it."""
    if BY_ZMQ:
        return Files(Path(sys.argv[1]) / "between")
    from loosestep.transports.mpi.membership import world as of_mpi

    return of_mpi()
