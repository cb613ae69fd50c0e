"""Keeps libzmq's threads on the worker's cores: where a worker is bound to a core, they are quicker beside it."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TASKS = Path("/proc/self/task")
NAME = "ZMQbg"  # of libzmq's threads begins so


class Cores:
    """The cores of libzmq's threads, which follow those of this process's first thread. Only Linux tells them."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.cores = self.bound()

    @staticmethod
    def bound() -> set[int]:
        """Return the cores that this process's first thread may use; none where the system does not say."""
        return os.sched_getaffinity(os.getpid()) if hasattr(os, "sched_getaffinity") and TASKS.is_dir() else set()

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note the threads that libzmq starts meanwhile; another context's may be there already."""
        before = zmq_threads()
        yield
        self.threads |= zmq_threads() - before

    def follow(self) -> None:
        """Bind the threads to the first thread's cores, if these have changed."""
        cores = self.bound()
        if cores == self.cores:
            return
        self.cores = cores
        for thread in self.threads:
            with suppress(OSError):  # it has ended, or may not be bound
                os.sched_setaffinity(thread, cores)


def zmq_threads() -> set[int]:
    """Return libzmq's threads in this process, by their numbers."""
    found = set()
    for task in TASKS.glob("*"):
        with suppress(OSError):
            if task.joinpath("comm").read_text().startswith(NAME):
                found.add(int(task.name))
    return found
