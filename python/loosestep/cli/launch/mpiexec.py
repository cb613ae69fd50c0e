"""The kinds of MPI, and the options and settings that their mpiexec needs."""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from loosestep import _core
from loosestep.foundation.errors import LoosestepError

GUARD, STARTER = (Path(__file__).with_name(name) for name in ("guard.py", "starter.py"))
LOOPBACK = "127.0.0.1"
SCHEDULED = ("SLURM_JOB_ID", "SLURM_JOBID", "PBS_JOBID", "LSB_JOBID", "PE_HOSTFILE")
"""Where one of these is set, mpiexec starts ranks on the machines of an allocation."""
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
OF_OUTER = ("LOOSESTEP_RANK", "LOOSESTEP_ADDRESS")
"""What a job around this one has told its ranks."""
MEND = "pip install 'loosestep[mpi]', or put the mpiexec of an MPI on the PATH"


class NoMpi(LoosestepError):
    """There is no mpiexec, or none of a known kind."""


@dataclass(frozen=True)
class Mpi(ABC):
    """One kind of mpiexec. `survives`: the other ranks go on when one dies, and are told."""

    path: str
    version: tuple[int, ...]
    survives: ClassVar[bool] = False
    passes: ClassVar[dict[int, int]] = {}
    """For a signal of ours, the one that mpiexec hands to the ranks; the guard translates it back."""

    @abstractmethod
    def options(self, ranks: int, hosts: str | None, tag: bool) -> list[str]:
        """Return the options between mpiexec and the program."""

    @abstractmethod
    def settings(self, ranks: int) -> dict[str, str]:
        """Return what this MPI needs in the environment, where the user has set nothing else."""

    def private(self, folder: Path) -> dict[str, str]:
        """Return settings that keep this MPI on this machine; `folder` is removed with the launcher."""
        return {}

    def command(self, program: list[str], ranks: int, hosts: str | None, tag: bool) -> list[str]:
        """Return the whole command: every rank's program runs under a guard."""
        guard = [sys.executable, "-I", "-S", str(GUARD), "die" if self.survives else "tell"]
        return [self.path, *self.options(ranks, hosts, tag), *guard, *program]

    def environment(self, ranks: int) -> dict[str, str]:
        """Return this process's environment and what ranks need; LOOSESTEP_RANKS is their number."""
        one = dict.fromkeys(ONE_THREAD, "1")  # ranks are the parallelism: more threads under them fight
        around = {name: value for name, value in os.environ.items() if name not in OF_OUTER}
        return {**one, **self.settings(ranks), **around, "LOOSESTEP_RANKS": str(ranks)}


class OpenMpi(Mpi):
    """Open MPI 5. It ends ranks by SIGKILL on SIGINT and SIGTERM, so two harmless signals stand for these."""

    survives = True
    passes: ClassVar = {signal.SIGINT: signal.SIGURG, signal.SIGTERM: signal.SIGWINCH}

    def options(self, ranks: int, hosts: str | None, tag: bool) -> list[str]:
        passed = ",".join(str(int(number)) for number in self.passes.values())
        # no binding: threads and data loaders of a rank would share its one core
        chosen = ["-n", str(ranks), "--with-ft", "ulfm", "--bind-to", "none", "--forward-signals", passed]
        for name in ("LOOSESTEP_RANKS", *ONE_THREAD):
            chosen += ["-x", name]
        chosen += ["--host", hosts] if hosts else []
        chosen += ["--oversubscribe"] if ranks > places() and not hosts else []
        return chosen + (["--output", "rank"] if tag else [])

    def settings(self, ranks: int) -> dict[str, str]:
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        return {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"} if root else {}

    def private(self, folder: Path) -> dict[str, str]:
        """Put shared memory where it goes with the launcher even if it is killed; open no port to others."""
        chosen = {"OMPI_MCA_btl_sm_backing_directory": str(folder)}
        if LOOPBACK in _core.Pulse.addresses() and "OMPI_MCA_btl_tcp_if_exclude" not in os.environ:
            chosen |= {"OMPI_MCA_btl_tcp_if_include": "lo", "OMPI_MCA_btl_tcp_disable_family": "6"}
        return chosen


class Mpich(Mpi):
    """MPICH and its descendants. It ends all ranks when one dies."""

    passes: ClassVar = {signal.SIGINT: signal.SIGINT, signal.SIGTERM: signal.SIGTERM}

    def options(self, ranks: int, hosts: str | None, tag: bool) -> list[str]:
        there = ["-hosts", hosts] if hosts else []
        return ["-n", str(ranks), *there, *(["-prepend-rank"] if tag else [])]

    def settings(self, ranks: int) -> dict[str, str]:
        crowded = ranks > _core.info()["cores"]
        return {"MPIR_CVAR_ENABLE_HEAVY_YIELD": "1"} if crowded else {}  # else waiting ranks spin


class Local(Mpi):
    """No MPI: `starter.py` starts the ranks on this machine, and they join by ZeroMQ."""

    survives = True
    passes: ClassVar = OpenMpi.passes

    def options(self, ranks: int, hosts: str | None, tag: bool) -> list[str]:
        return ["-I", "-S", str(STARTER), str(ranks), "tag" if tag else "plain"]

    def settings(self, ranks: int) -> dict[str, str]:
        return {}

    def private(self, folder: Path) -> dict[str, str]:
        """Let ranks meet where this user alone can come, with a key that nobody else has."""
        return {"LOOSESTEP_ADDRESS": f"ipc://{folder}/meet", "LOOSESTEP_KEY": secrets.token_urlsafe(32)}


def local() -> Local:
    """Return what starts ranks without an MPI. Raises NoMpi where they could not join."""
    if importlib.util.find_spec("zmq") is None:
        raise NoMpi("--wire zmq needs pyzmq: pip install 'loosestep[zmq]'")
    return Local(sys.executable, ())


def alone(hosts: str | None) -> bool:
    """Return whether all ranks will be on this machine: neither the user nor a scheduler names hosts."""
    return hosts is None and not any(name in os.environ for name in SCHEDULED)


def places() -> int:
    """Return the ranks that fit: the tasks of a SLURM allocation, which mpiexec asks for, else the cores."""
    told = os.environ.get("SLURM_TASKS_PER_NODE") if "SLURM_JOB_ID" in os.environ else None
    tasks = re.findall(r"(\d+)(?:\(x(\d+)\))?", told or "")  # such as 2(x3),1
    cores: int = _core.info()["cores"]
    return sum(int(count) * int(nodes or 1) for count, nodes in tasks) if tasks else cores


BANNERS: dict[type[Mpi], str] = {
    OpenMpi: r"\((?:Open MPI|OpenRTE)\) ([\d.]+)",
    Mpich: r"HYDRA build details:\s+Version:\s+([\d.]+)",
}
"""In what `mpiexec --version` prints: the kind, and its version."""


def find() -> Mpi:
    """Return the mpiexec beside this Python (a wheel's, which mpi4py loads), else the first on the PATH."""
    path = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
    if path is None:
        raise NoMpi(f"there is no mpiexec beside {sys.executable} or on the PATH: {MEND}")
    return identify(path, banner(path))


def banner(path: str) -> str:
    """Return what an mpiexec prints about itself."""
    try:
        told = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoMpi(f"{path} does not say what it is ({error}): {MEND}") from error
    return told.stdout + told.stderr


def identify(path: str, text: str) -> Mpi:
    """Return the kind and version in that text."""
    for kind, pattern in BANNERS.items():
        found = re.search(pattern, text)
        if found:
            version = tuple(int(part) for part in found[1].strip(".").split("."))
            return supported(kind(path, version))
    first = (text.strip().splitlines() or ["nothing"])[0]
    raise NoMpi(f"{path} is neither Open MPI's nor MPICH's (--version says {first!r}): {MEND}")


def supported(mpi: Mpi) -> Mpi:
    """Open MPI before 5 has other options, and no way for ranks to outlive one."""
    if isinstance(mpi, OpenMpi) and mpi.version < (5,):
        said = ".".join(map(str, mpi.version))
        raise NoMpi(f"{mpi.path} is Open MPI {said}, and 5 or newer is wanted: {MEND}")
    return mpi
