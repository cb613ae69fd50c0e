"""Anonymous shared memory with locks that the kernel frees when their holder ends, however it ends.

The memory is a memfd: nothing of it is in /dev/shm, and it is gone with the last process that has it. Locks are
those of fcntl on single bytes; they belong to a process, so threads have one more, and a forked child has none.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from loosestep.data.shared_memory.free_memory import free_memory
from loosestep.foundation import units

FLOCK = "hhqqi0q"  # struct flock where addresses have 64 bits
NAP = 0.0005


class Segment:
    """So many bytes of shared memory. Pages are taken by `reserve`; others must not be written to.

    It can be pickled for another process of this user on this host, while the one that pickled it lives.
    """

    known: ClassVar[WeakValueDictionary[tuple[int, int], Segment]] = WeakValueDictionary()
    """Those of this process: closing another descriptor of the same memory would free its locks."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        try:
            self.memory = mmap.mmap(fd, 0)
        except OSError:
            os.close(fd)
            raise
        self.view = memoryview(self.memory)
        self.inode = _inode(fd)
        self.pid, self.guard = os.getpid(), threading.RLock()
        self.duplicates: list[int] = []
        self.known[self.inode] = self

    @classmethod
    def make(cls, size: int, name: str = "loosestep") -> Segment:
        """Return new memory. Raises MemoryError if the system has less than that."""
        if size > free_memory():
            raise MemoryError(no_room(size))
        fd = os.memfd_create(name)
        os.ftruncate(fd, size)
        return cls(fd)

    @classmethod
    def of(cls, fd: int) -> Segment:
        """Return the memory of a descriptor, which becomes the segment's own."""
        there = cls.known.get(_inode(fd))
        if there is None:
            return cls(fd)
        there.duplicates.append(fd)
        return there

    def reserve(self, start: int, size: int) -> None:
        """Take the pages of a part now. Raises MemoryError where there are not so many."""
        if size > free_memory():
            raise MemoryError(no_room(size))
        try:
            os.posix_fallocate(self.fd, start, size)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.ENOMEM, errno.EFBIG):
                raise
            raise MemoryError(no_room(size)) from error

    @contextmanager
    def locked(self, seconds: float, byte: int = 0) -> Iterator[None]:
        """Hold a lock. Raises TimeoutError if others hold it for so many seconds."""
        until = time.monotonic() + seconds
        guard = self._own_guard()
        if not guard.acquire(timeout=seconds):
            raise TimeoutError(late(seconds))
        try:
            while not self.claim(byte):
                if time.monotonic() > until:
                    raise TimeoutError(late(seconds))
                time.sleep(NAP)
            try:
                yield
            finally:
                fcntl.lockf(self.fd, fcntl.LOCK_UN, 1, byte)
        finally:
            guard.release()

    def claim(self, byte: int) -> bool:
        """Take a lock, which this process then holds until it ends; return whether it was free."""
        try:
            fcntl.lockf(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def is_held(self, byte: int) -> bool:
        """Return whether another process holds a lock: it lives."""
        asked = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
        found = struct.unpack(FLOCK, fcntl.fcntl(self.fd, fcntl.F_GETLK, asked))
        return int(found[0]) != fcntl.F_UNLCK

    def fence(self) -> None:
        """Order what this thread has written before what it writes next, for readers without a lock.

        A lock's release is ordered before its next acquisition, on every processor.
        """
        order = threading.Lock()
        for _ in range(2):
            with order:
                pass

    def _own_guard(self) -> threading.RLock:
        """Return the lock of this process's threads; a forked child's copy may have been held when it was made."""
        if self.pid != os.getpid():
            self.pid, self.guard = os.getpid(), threading.RLock()
        return self.guard

    def __reduce__(self) -> tuple[Any, ...]:
        return opened, (os.getpid(), self.fd, self.inode)

    def __del__(self) -> None:
        for fd in (self.fd, *self.duplicates) if "duplicates" in vars(self) else ():
            os.close(fd)


def opened(pid: int, fd: int, inode: tuple[int, int]) -> Segment:
    """Return the memory of another process of this user, or this one's own."""
    if (there := Segment.known.get(inode)) is not None:
        return there
    try:
        mine = os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        what = "the shared memory of another process can be opened only on its host, by its user, while it lives"
        raise OSError(error.errno, f"{what}: process {pid}") from error
    if _inode(mine) != inode:
        os.close(mine)
        raise FileNotFoundError(errno.ENOENT, f"process {pid} has ended, or has closed its shared memory")
    return Segment(mine)


def _inode(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def no_room(size: float) -> str:
    """Return what is wrong when so much memory is not to be had, and what to do."""
    return (
        f"no room for {units.size(size)} of shared memory, this system (or its container's limit) has "
        f"{units.size(free_memory())} left: give a smaller capacity, or end what else uses memory "
        "(/dev/shm is not used, so its size does not matter)"
    )


def late(seconds: float) -> str:
    """Return what is wrong when a lock is not to be had."""
    return (
        f"another process of this host has held a lock of shared memory for {seconds:g} s: it is probably stopped"
    )
