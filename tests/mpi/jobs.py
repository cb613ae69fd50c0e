"""Starting `loosestep run` in tests, seeing how it ended, and seeing that nothing of it is left."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from loosestep.cli import launch

LEAN = Path(__file__).parents[1] / "lean"
MARK = "LOOSESTEP_TEST_JOB"  # in the environment of a job's processes, by which they are found


def mpi_is_here() -> bool:
    """Whether ranks can be started and find their MPI."""
    try:
        launch.find()
    except launch.NoMpi:
        return False
    return importlib.util.find_spec("mpi4py") is not None


needs_mpi = pytest.mark.skipif(not mpi_is_here(), reason="pip install 'loosestep[mpi]'")


class Running:
    """A job that was started, and how it ended."""

    def __init__(self, process: subprocess.Popen[str], mark: str) -> None:
        self.process, self.mark = process, mark
        self.out = self.err = ""

    def wait_for(self, word: str, times: int = 1) -> None:
        """Read standard output until a word has come so often."""
        assert self.process.stdout is not None
        while self.out.count(word) < times:
            line = self.process.stdout.readline()
            assert line, f"ended before it said {word}: {self.out} {self.process.communicate()[1]}"
            self.out += line

    def end(self, seconds: float = 60) -> int:
        """The exit code; fails if it takes longer."""
        try:
            out, self.err = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, self.err = self.process.communicate(timeout=20)
            pytest.fail(f"still running after {seconds} s: {self.out}{out}\n{self.err}")
        self.out += out
        return self.process.returncode

    def left(self, seconds: float = 5) -> list[str]:
        """The commands of its processes that are still there after so many seconds at most."""
        until = time.monotonic() + seconds
        while (found := processes(self.mark)) and time.monotonic() < until:
            time.sleep(0.1)
        return list(found.values())


def processes(mark: str) -> dict[int, str]:
    """Of the living processes, those with the mark in their environment."""
    folders = {int(folder.name): folder for folder in Path("/proc").glob("[0-9]*")}
    marked = [pid for pid, folder in folders.items() if f"{MARK}={mark}".encode() in content(folder / "environ")]
    return {pid: content(folders[pid] / "cmdline").replace(b"\0", b" ").decode() for pid in marked}


def content(file: Path) -> bytes:
    """Of a process's file; nothing if it has ended, or is another user's."""
    try:
        return file.read_bytes()
    except OSError:
        return b""


def lean(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment whose Python does not import `torch._dynamo`, see tests/lean."""
    paths = (str(LEAN), environment.get("PYTHONPATH"))
    return {**environment, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


@contextmanager
def started(
    *arguments: object, environment: dict[str, str] | None = None, whole: bool = False
) -> Iterator[Running]:
    """`loosestep run` with these arguments; whatever is left of it in the end is killed.

    whole: ranks may import all of PyTorch, see tests/lean.
    """
    mark = uuid.uuid4().hex
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("OMPI_", "OMP_", "PYTHONUNB"))
    }
    command = [sys.executable, "-m", "loosestep", "run", *map(str, arguments)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env=(dict if whole else lean)({**kept, **(environment or {}), MARK: mark}),
    )
    running = Running(process, mark)
    try:
        yield running
    finally:
        for pid in processes(mark):
            os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=20)


def ended(
    *arguments: object, seconds: float = 60, environment: dict[str, str] | None = None, whole: bool = False
) -> Running:
    """A job that has run to its end, and of which nothing is left."""
    with started(*arguments, environment=environment, whole=whole) as running:
        running.end(seconds)
        assert running.left() == []
        return running


def script(folder: Path, text: str, lines: Sequence[str] = ()) -> Path:
    """A file with that program."""
    file = folder / "script.py"
    file.write_text(text + "\n".join(lines) + "\n")
    return file


def parent(pid: int) -> int:
    """Of a living process; 0 if it has ended."""
    fields = content(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()
    return int(fields[1]) if fields else 0


def alive(pid: int) -> bool:
    """Return whether a process runs: one that has ended and that nobody has waited for yet does not."""
    fields = content(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()
    return bool(fields) and fields[0] not in (b"Z", b"X")


def has_ended(pid: int, seconds: float = 10) -> bool:
    """Wait until a process has ended, so many seconds at most; return whether it has."""
    until = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    return not alive(pid)


def mpiexec_of(job: Running) -> int:
    """The process that the launcher started."""
    (pid,) = [pid for pid in processes(job.mark) if parent(pid) == job.process.pid]
    return pid


def wait_for_file(file: Path, job: Running, seconds: float = 30) -> None:
    """Until a job has written a file."""
    until = time.monotonic() + seconds
    while not file.exists():
        assert job.process.poll() is None, job.process.communicate()
        assert time.monotonic() < until, f"there is no {file} after {seconds} s"
        time.sleep(0.05)
