"""A lock on a checkpoint folder, held by one job at a time; it ends with the process, however that ends.

It is a POSIX lock, which belongs to the process: a forked copy does not keep it alive. It does not exclude users
in the same process, so its holders there are counted.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loosestep.foundation.errors import CheckpointError
from loosestep.runtime.checkpoint.disk import reason

if TYPE_CHECKING:
    from pathlib import Path

TAKEN = (errno.EACCES, errno.EAGAIN)


@dataclass
class Held:
    """A lock of this process. Closing any descriptor of the file would release it, so there is only one."""

    descriptor: int
    process: int  # that took it: a forked copy has not
    holders: int = 1
    alone: bool = False  # one of them is a run, which writes until it ends


held: dict[str, Held] = {}
guard = threading.Lock()


def take(folder: Path, *, alone: bool) -> str:
    """Lock a folder for this process, and return the key that `release` wants.

    alone: no other run of this process may write there meanwhile; several optimizers of one script may, one after
        the other. Raises CheckpointError where another job holds it, OSError where it cannot be written.
    """
    key = os.path.realpath(folder)
    with guard:
        mine = held.get(key)
        if mine is not None and mine.process == os.getpid():
            if mine.alone and alone:
                raise CheckpointError(f"{folder} is written by another run of this process: use another folder")
            mine.holders, mine.alone = mine.holders + 1, mine.alone or alone
            return key
        held[key] = Held(locked(folder), os.getpid(), alone=alone)
    return key


def locked(folder: Path) -> int:
    """Return a descriptor of the locked file, into which the holder is written."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in TAKEN:
            told = holder(descriptor)
            os.close(descriptor)
            raise CheckpointError(
                f"{folder} is written by another job{told}: wait for its end, or use another folder"
            ) from error
        print(
            f"{folder} cannot be locked ({reason(error)}): see to it that no other job writes there",
            file=sys.stderr,
            flush=True,
        )
        return descriptor
    os.ftruncate(descriptor, 0)
    about = {"process": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    os.pwrite(descriptor, json.dumps(about).encode(), 0)
    return descriptor


def holder(descriptor: int) -> str:
    """Describe the holder of the lock; return an empty text where it cannot be read."""
    try:
        about = json.loads(os.pread(descriptor, 1000, 0))
        return f", process {about['process']} on {about['host']} since {about['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def release(key: str) -> None:
    """Unlock the folder when the last holder in this process has released it."""
    with guard:
        mine = held.get(key)
        if mine is None or mine.process != os.getpid():
            return
        mine.holders -= 1
        if not mine.holders:
            del held[key]
            os.close(mine.descriptor)
