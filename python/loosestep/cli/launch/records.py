"""The launcher's folder: its guards' records, and the files of Open MPI's shared memory.

A shell waits to remove it should the launcher be killed. If that is killed as well: the launcher holds a lock on
the folder, so leftovers are told from folders in use, and the next launcher removes them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import IO, TYPE_CHECKING, NamedTuple

from loosestep.cli.launch import guard

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MEMORY = "/dev/shm"
FIRST = "loosestep-run"
REMOVE = 'exec 3<&0; { read _ <&3 && exit; rm -rf -- "$0"; sleep 1; rm -rf -- "$0"; } &'
"""A shell's: in the background, wait for a line, or for the end of the pipe and then, soon, of the ranks."""


def root() -> Path:
    """Return a folder whose files are memory, if there is one."""
    return Path(MEMORY if os.access(MEMORY, os.W_OK | os.X_OK) else tempfile.gettempdir())


def locked(folder: Path) -> int:
    """Return a descriptor that holds the folder's lock; OSError if another has it, or it is not ours, or gone."""
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(held).st_uid != os.getuid():
            raise PermissionError(f"{folder} is another user's")
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.stat(folder)  # another launcher may have taken it for left over, before it was locked
    except OSError:
        os.close(held)
        raise
    return held


def clear(place: Path) -> None:
    """Remove the folders of launchers of this user that are no more."""
    for folder in place.glob(f"{FIRST}.{os.getuid()}.*"):
        with suppress(OSError):
            remove(folder, locked(folder))


def remove(folder: Path, held: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(held)


@contextmanager
def own_folder() -> Iterator[Path]:
    """Return a folder of this launcher that is removed when it ends, even if it is killed."""
    place = root()
    clear(place)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"{FIRST}.{os.getuid()}.", dir=place))
        with suppress(OSError):
            held = locked(folder)
            break
    line = remover(folder)
    try:
        yield folder
    finally:
        remove(folder, held)
        with suppress(OSError), line:
            line.write(b"\n")


def remover(folder: Path) -> IO[bytes]:
    """Start what removes the folder when this process is gone; a line into the pipe says that it need not."""
    command = ["/bin/sh", "-c", REMOVE, str(folder)]
    clean = {"PATH": os.defpath}
    shell = subprocess.Popen(
        command, stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL, cwd="/", env=clean, start_new_session=True
    )
    shell.wait()
    assert shell.stdin is not None
    return shell.stdin


class Killed(NamedTuple):
    """A guard that did not end in order."""

    rank: str
    process: int
    begun: bool  # whether the rank's run had


class Guards:
    """The guards that mpiexec has started on this machine: which ended in order, and which were killed.

    early: the exit code of a rank that failed before its run had begun, 0 while there is none. abort: whether a
    rank has ended that wants all others ended too.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder, self.names = folder, names
        self.alive: dict[int, str] = {}  # their ranks
        self.ended = self.early = 0
        self.abort = False

    def look(self, mpiexec: int) -> list[Killed]:
        """Return the guards that were killed since the last call."""
        for pid in guards(mpiexec):
            if pid not in self.alive:
                self.alive[pid] = rank_of(pid, self.names)
        found = []
        for pid in [pid for pid in self.alive if not is_guard(pid)]:
            rank = self.alive.pop(pid)
            words = content(self.folder / f"rank-{rank}").split()
            self.abort = self.abort or b"abort" in words
            if b"ended" in words:
                self.ended += 1
                if b"begun" not in words:
                    self.early = self.early or int(words[words.index(b"ended") + 1])
            else:
                found.append(Killed(rank, pid, b"begun" in words))
        return found


def content(file: Path) -> bytes:
    """Return the content of a file that may be gone."""
    try:
        return file.read_bytes()
    except OSError:
        return b""


def children(pid: int) -> list[int]:
    """Return the children of a process (Linux; elsewhere none are known)."""
    tasks = Path(f"/proc/{pid}/task")
    try:
        names = os.listdir(tasks)
    except OSError:  # it has ended
        return []
    told = [content(tasks / name / "children") for name in names]
    return [int(each) for each in b" ".join(told).split()]


def guards(mpiexec: int) -> list[int]:
    """Return a process's guards: its children, or those of its one child (a new guard is briefly a copy)."""
    near = children(mpiexec)
    return [pid for child in near for pid in ([child] if is_guard(child) else filter(is_guard, children(child)))]


def is_guard(pid: int) -> bool:
    """Return whether a process is a guard, and alive: a dead one has no readable environment.

    mpiexec's own command names the guard as well, and so does its child before that has become the guard.
    """
    words = content(Path(f"/proc/{pid}/cmdline")).split(b"\0")
    return words[1:4] == [b"-I", b"-S", guard.__file__.encode()]


def rank_of(pid: int, names: Sequence[str]) -> str:
    """Return the rank that mpiexec has given to the process, from its environment."""
    told = dict(each.split(b"=", 1) for each in content(Path(f"/proc/{pid}/environ")).split(b"\0") if b"=" in each)
    return next((told[name.encode()].decode() for name in names if name.encode() in told), "?")
