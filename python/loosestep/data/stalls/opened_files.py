"""The files that a program reads while it runs, found by Python's audit events, in it and in its workers.

What opens files without Python (a C library, as cv2 and h5py do) is not seen. All processes append to one nameless
file, which ends with them.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAME = "loosestep-opened"
CODE = (".py", ".pyc", ".so", ".pth", ".egg-link")
SYSTEM = ("/proc/", "/sys/", "/dev/", "/etc/", "/run/", sys.prefix, sys.base_prefix, sys.exec_prefix)


class OpenedFiles:
    """Records files from when it is made; `paths` returns those that are data, as far as names tell.

    record: a descriptor of another process's record, opened to append to it.
    """

    def __init__(self, record: int | None = None) -> None:
        self.record = os.memfd_create(NAME) if record is None else record
        fcntl.fcntl(self.record, fcntl.F_SETFL, os.O_APPEND)
        self.on = True
        sys.addaudithook(self.note)  # which cannot be removed

    def note(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Record an event if a file was opened for reading, by its name."""
        if event != "open" or not self.on:
            return
        path, _, flags = arguments
        reads = flags & os.O_ACCMODE == os.O_RDONLY and not flags & os.O_DIRECTORY
        if reads and isinstance(path, (str, bytes)):
            os.write(self.record, os.path.abspath(os.fsencode(path)) + b"\0")

    def paths(self) -> list[str]:
        """Return the files that were opened, still exist, and are neither code nor the system's."""
        content = os.pread(self.record, os.fstat(self.record).st_size, 0)
        names = sorted({os.fsdecode(name) for name in content.split(b"\0") if name})
        return [name for name in names if is_data(name)]

    def in_worker(self, begin: Callable[[int], object] | None) -> InWorker:
        """Return a `worker_init_fn` that goes on recording also in a worker that was not forked."""
        return InWorker(os.getpid(), self.record, begin)

    def close(self) -> None:
        """Record no more."""
        self.on = False
        os.close(self.record)


def is_data(name: str) -> bool:
    """Return whether a file's name may be that of data."""
    return not name.startswith(SYSTEM) and not name.endswith(CODE) and Path(name).is_file()


class InWorker:
    """What a DataLoader calls at the beginning of each worker: it records there, then does what was to be done."""

    def __init__(self, owner: int, record: int, begin: Callable[[int], object] | None) -> None:
        self.owner, self.record, self.begin = owner, record, begin

    def __call__(self, number: int) -> None:
        if not inherited(self.record):
            OpenedFiles(os.open(f"/proc/{self.owner}/fd/{self.record}", os.O_WRONLY | os.O_APPEND))
        if self.begin is not None:
            self.begin(number)


def inherited(record: int) -> bool:
    """Return whether this process was forked from the one that has the record, and records already."""
    try:
        return NAME in os.readlink(f"/proc/self/fd/{record}")
    except FileNotFoundError:
        return False
