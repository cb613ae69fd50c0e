"""Files in the system's page cache: dropped before a cold run, read before a cached one, without root.

`posix_fadvise(POSIX_FADV_DONTNEED)` drops a file's clean pages, except those that a process has mapped. Whether it
did is asked of `mincore`, which reads nothing; a read with RWF_NOWAIT may bring back what it looks for.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from loosestep.data.shared_memory.free_memory import free_memory
from loosestep.foundation import units

LOOKED_AT = 256  # files that are looked at
LARGEST = 1 << 30  # bytes of a file that are looked at
READ = 1 << 20
ROOM = 0.5  # of the memory that is available may be filled with files


class PageCache:
    """The files of a data set: paths, folders with all that is below them.

    Raises FileNotFoundError for a path that is not there.
    """

    def __init__(self, paths: Iterable[str | os.PathLike[str]]) -> None:
        self.files = sorted({file for path in paths for file in _below(Path(path))})
        self.bytes = sum(file.stat().st_size for file in self.files)

    def drop(self) -> None:
        """Write changed pages to the disk, and drop all of them from memory."""
        for fd in self._opened():
            os.fdatasync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def fill(self) -> None:
        """Read all files, if half of the memory that is free holds them."""
        if self.bytes > ROOM * free_memory():
            return
        for fd in self._opened():
            while os.read(fd, READ):
                pass

    def resident(self) -> float | None:
        """Return about which share of the files is in memory; None where the system does not say."""
        counts = [_in_memory(fd) for fd in self._opened(max(1, len(self.files) // LOOKED_AT))]
        pages = sum(pages for _, pages in counts)
        return sum(there for there, _ in counts) / pages if pages else None

    def _opened(self, step: int = 1) -> Iterator[int]:
        """Yield a descriptor of each file, or each `step`-th, that is still there."""
        for file in self.files[::step]:
            try:
                fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                yield fd
            finally:
                os.close(fd)

    def complaint(self) -> str:
        """Return a sentence if files that were dropped are still in memory."""
        share = self.resident()
        if share is None or share < 0.1:
            return ""
        return (
            f"{units.share(share)} of the files stayed in memory when they were dropped, so the cold runs were "
            "not cold: they are on a file system in memory (tmpfs), or a process has mapped them (np.memmap)."
        )


def _below(path: Path) -> list[Path]:
    """Return a file, or the files in a folder and below it."""
    if path.is_dir():
        return [file.resolve() for file in path.rglob("*") if file.is_file()]
    if not path.is_file():
        raise FileNotFoundError(
            errno.ENOENT, "there is no file or folder to be dropped from the page cache", str(path)
        )
    return [path.resolve()]


def _in_memory(fd: int) -> tuple[int, int]:
    """Return how many of a file's pages are in memory, and how many there are; none where that is not told.

    The kernel tells the truth of files that this user owns or may write.
    """
    found = os.fstat(fd)
    size = min(found.st_size, LARGEST)
    if size == 0 or not (found.st_uid == os.geteuid() or os.access(f"/proc/self/fd/{fd}", os.W_OK)):
        return 0, 0
    with mmap.mmap(fd, size, prot=mmap.PROT_READ) as mapped:
        content = np.frombuffer(mapped, np.uint8)
        pages = np.zeros(-(-size // mmap.PAGESIZE), np.uint8)
        failed = ctypes.CDLL(None).mincore(
            ctypes.c_void_p(content.ctypes.data), ctypes.c_size_t(size), ctypes.c_void_p(pages.ctypes.data)
        )
        del content  # or the mapping could not be closed
    return (0, 0) if failed else (int((pages & 1).sum()), len(pages))
