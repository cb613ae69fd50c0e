"""What a process does to the disk below a folder: counted, refused, or ended at.

Whatever the code is: Python's own audit events say when a file is opened to be written, renamed, made or removed;
`os.fsync`, which has none, is wrapped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

EVENTS = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.symlink"}
"""Their first argument is a path, the last one the folder that it begins at, or -1."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
Act = Callable[[int, str, int], None]  # the number of the touch from 1, what it is, and a file or -1


def watch(folder: Path, act: Act) -> None:
    """From now on, for as long as the process lives: call `act` before every touch of what is below the folder."""
    root, sync = os.path.realpath(folder), os.fsync
    count = 0

    def touch(what: str, file: int = -1) -> None:
        nonlocal count
        count += 1
        act(count, what, file)

    def below(path: Any, begins: int = -1) -> bool:
        if isinstance(path, int):
            path = f"/proc/self/fd/{path}"
        if not isinstance(path, (str, bytes)):
            return False
        start = f"/proc/self/fd/{begins}/" if begins >= 0 else ""
        return os.path.realpath(os.path.join(start, os.fsdecode(path))).startswith(root)

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & WRITING and below(path):
                touch(f"open {path}")
        elif event in EVENTS and below(arguments[0], arguments[-1]):
            touch(f"{event} {arguments[0]}")

    def synced(file: Any) -> None:
        number = file if isinstance(file, int) else file.fileno()
        if below(number):
            touch("fsync", number)
        sync(file)

    os.fsync = synced
    sys.addaudithook(heard)


def dying(at: int, end: Callable[[], None]) -> Act:
    """The process ends just before that touch."""
    return lambda count, what, file: end() if count == at else None


def torn(at: int, end: Callable[[], None]) -> Act:
    """As `dying`; of a file that was about to be synced only half has come to the disk."""

    def act(count: int, what: str, file: int) -> None:
        if count != at:
            return
        if file >= 0:
            with suppress(OSError):  # a folder has no half
                os.truncate(f"/proc/self/fd/{file}", os.fstat(file).st_size // 2)
        end()

    return act


def refusing(at: int, number: int) -> Act:
    """That touch fails with an error number of the system, once."""

    def act(count: int, what: str, file: int) -> None:
        if count == at:
            raise OSError(number, os.strerror(number))

    return act
