"""Files in the system's page cache: dropped before a cold run, read before a cached one, without root.

`posix_fadvise(POSIX_FADV_DONTNEED)` drops a file's clean pages, except those that a process has mapped. Whether it
did is seen by reads with RWF_NOWAIT, which fail where a page is not in memory.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from loosestep.data.shared_memory.free_memory import free_memory
from loosestep.foundation import units

PAGE = 4096
LOOKS = 32  # pages of a file that are looked at
LOOKED_AT = 256  # files that are looked at
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
        """Return about which share of the files is in memory; None where the file system does not say."""
        found = [there for fd in self._opened(max(1, len(self.files) // LOOKED_AT)) for there in _looks(fd)]
        return sum(found) / len(found) if found else None

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


def _looks(fd: int) -> list[bool]:
    """Return for some pages of a file whether they are in memory; none where that cannot be asked."""
    found: list[bool] = []
    flag = getattr(os, "RWF_NOWAIT", 0)  # not with every C library
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)  # no reading ahead
    pages = -(-os.fstat(fd).st_size // PAGE)
    for page in range(0, pages, max(1, -(-pages // LOOKS))) if flag else ():
        try:
            os.preadv(fd, [bytearray(1)], page * PAGE, flag)
        except BlockingIOError:
            found.append(False)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
            return []
        else:
            found.append(True)
    return found
