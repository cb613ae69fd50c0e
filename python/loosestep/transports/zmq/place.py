"""Which process this is, of how many, and where rank 0 can be met: said by the user, or by the launcher."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from loosestep.foundation import checks
from loosestep.transports.processes.launchers import BY_LOOSESTEP, OF_MPI, check_alone, number, slurm_count

if TYPE_CHECKING:
    from collections.abc import Mapping

RANK, ADDRESS, KEY = "LOOSESTEP_RANK", "LOOSESTEP_ADDRESS", "LOOSESTEP_KEY"
"""What `loosestep run --wire zmq` and `loosestep.launch` tell a process, beside the number of ranks."""
FIRST, LAST = 1024, 65536  # ports that a user may listen at
STEP, CHOICES = 7919, 4  # from a port that another program may have to the ports beside it


class Place(NamedTuple):
    """One process among those of its job."""

    rank: int
    size: int
    endpoints: tuple[str, ...]  # where rank 0 can be met: it listens at the first that is free
    job: str  # tells this job from others that meet nearby

    @property
    def local(self) -> bool:
        """Whether all processes are on this machine, since rank 0 is met where no other machine reaches."""
        return all(end.startswith(("ipc:", "tcp://127.", "tcp://localhost:")) for end in self.endpoints)


def explicit(rank: int | None, size: int | None, address: str | None) -> Place | None:
    """Return the place that the user gives, None where nothing is given."""
    given = {"rank": rank, "size": size, "address": address}
    if all(value is None for value in given.values()):
        return None
    missing = [name for name, value in given.items() if value is None]
    if missing:
        raise ValueError(f"rank, size and address belong together, and {' and '.join(missing)} are missing")
    size = checks.integer("size", size)
    checks.rank("rank", rank, size)
    return Place(checks.integer("rank", rank, 0), size, (endpoint(str(address)),), str(address))


def endpoint(address: str) -> str:
    """Return ZeroMQ's name of an address, "host:port" or with its kind as in "ipc:///a/file"."""
    if address.startswith("ipc://"):
        return address
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < LAST:
        raise ValueError(f"address must be host:port, such as '10.0.0.1:29400', got {address!r}")
    return f"tcp://{host}:{port}"


def found(environment: Mapping[str, str] = os.environ) -> Place:
    """Return the place that the launcher gives, that of one process where it started no others.

    Raises RuntimeError where a launcher started several, and does not say where rank 0 is.
    """
    place = told(environment)
    if place is None:
        check_alone("its environment does not say where rank 0 can be met")
        return Place(0, 1, (), "alone")
    return place


def told(environment: Mapping[str, str]) -> Place | None:
    """Return the place of a process that its environment says is one of several; None if it does not say."""
    if BY_LOOSESTEP in environment:  # `loosestep run` has the last word, whatever is around it
        return by_loosestep(environment)
    return by_torch(environment) or by_slurm(environment)


def by_loosestep(environment: Mapping[str, str]) -> Place | None:
    """Return what `loosestep run --wire zmq` or `loosestep.launch` has said."""
    if not {RANK, ADDRESS, BY_LOOSESTEP} <= environment.keys():
        return None
    address, rank = environment[ADDRESS], environment[RANK]
    return checked(rank, number(environment, BY_LOOSESTEP), (endpoint(address),), address, RANK)


def by_torch(environment: Mapping[str, str]) -> Place | None:
    """Return what torchrun, accelerate, or a script that starts its own processes has said.

    MASTER_PORT belongs to torch's own store, so that rank 0 listens at a port that follows from it.
    """
    size = number(environment, "WORLD_SIZE")
    if size < 2 or not {"RANK", "MASTER_ADDR", "MASTER_PORT"} <= environment.keys():
        return None
    host, port = environment["MASTER_ADDR"], environment["MASTER_PORT"]
    if not port.isdecimal():
        raise RuntimeError(f"MASTER_PORT must be the number of a port, got {port!r}")
    extra = [environment.get(f"TORCHELASTIC_{name}", "") for name in ("RUN_ID", "RESTART_COUNT")]
    job = " ".join([host, port, *extra])
    return checked(environment["RANK"], size, beside(host, int(port)), job, "RANK")


def by_slurm(environment: Mapping[str, str]) -> Place | None:
    """Return what `srun` has said. Rank 0 is on the first node, at a port that follows from job and step."""
    if any(
        number(environment, name) == 1 for name in OF_MPI if name in environment
    ):  # mpiexec -n 1 in an allocation
        return None
    _, size = slurm_count(environment)
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_NODELIST", "")
    if size < 2 or "SLURM_PROCID" not in environment or not nodes:
        return None
    job = " ".join(environment.get(f"SLURM_{name}", "") for name in ("JOB_ID", "STEP_ID"))
    port = FIRST + crc32(job.encode()) % (LAST - FIRST)
    host = "127.0.0.1" if nodes in ("localhost", environment.get("SLURMD_NODENAME")) else first_node(nodes)
    return checked(environment["SLURM_PROCID"], size, beside(host, port), f"SLURM {job}", "SLURM_PROCID")


def first_node(nodes: str) -> str:
    """Return the first of SLURM's list of nodes, such as `n[003-007,9],m1`."""
    match = re.match(r"([^,\[]*)(?:\[(\d+)[^\]]*\]([^,\[]*))?", nodes)
    assert match is not None, "every part may be empty"
    return "".join(part or "" for part in match.groups())


def beside(host: str, port: int) -> tuple[str, ...]:
    """Return a few ports that follow from one that another program has, far from those of neighbouring jobs."""
    ports = (FIRST + (port - FIRST + STEP * turn) % (LAST - FIRST) for turn in range(1, CHOICES + 1))
    return tuple(f"tcp://{host}:{one}" for one in ports)


def checked(rank: str, size: int, endpoints: tuple[str, ...], job: str, name: str) -> Place:
    """Return a place, after a look at the rank that a variable holds."""
    if not rank.isdecimal() or int(rank) >= size:
        raise RuntimeError(f"{name} must be below {size}, the number of processes, got {rank!r}")
    return Place(int(rank), size, endpoints, job)
