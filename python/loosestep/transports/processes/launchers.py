"""What the environment says of the launcher of this process: one of several that trains alone is an error."""

from __future__ import annotations

import importlib.util
import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BY_MPI = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK", "MPI_LOCALNRANKS", "MV2_COMM_WORLD_SIZE")
"""What an MPI's launcher leaves in the environment of the processes that it starts."""

OF_MPI = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "MPI_LOCALNRANKS")
"""Those of them that hold a number of processes."""

LOCAL_RANKS = (
    *("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "MV2_COMM_WORLD_LOCAL_RANK", "PALS_LOCAL_RANKID"),
    *("SLURM_LOCALID", "LOCAL_RANK"),
)
"""Where launchers leave the place of a process among those of its host."""

BY_LOOSESTEP = "LOOSESTEP_RANKS"
RECORD = "LOOSESTEP_BEGUN"  # names the file in which a rank tells its guard its progress


def started_by_mpi() -> bool:
    """Return whether an MPI's launcher started this process."""
    return any(name in os.environ for name in BY_MPI)


def number(environment: Mapping[str, str], name: str) -> int:
    """Return the whole number that a variable holds, 1 where it holds none."""
    text = environment.get(name, "")
    return int(text) if text.isdecimal() else 1


def local_rank(environment: Mapping[str, str]) -> int:
    """Return the place of this process among those of its host. Raises RuntimeError if no launcher says it."""
    for name in LOCAL_RANKS:
        if environment.get(name, "").isdecimal():
            return int(environment[name])
    raise RuntimeError(
        f"the launcher does not say which process of its host this is: none of {', '.join(LOCAL_RANKS)} is set"
    )


def claims(environment: Mapping[str, str]) -> Iterator[tuple[str, str, int]]:
    """Yield (launcher, variable, processes) for every launcher that says how many processes it started."""
    for name in OF_MPI:
        yield "an MPI launcher", name, number(environment, name)
    torchrun = "torchrun" if "TORCHELASTIC_RUN_ID" in environment else "a launcher of torch.distributed"
    yield torchrun, "WORLD_SIZE", number(environment, "WORLD_SIZE")
    if "SLURM_PROCID" in environment and not any(name in environment for name in OF_MPI):
        yield "SLURM", *slurm_count(environment)


def slurm_count(environment: Mapping[str, str]) -> tuple[str, int]:
    """Return SLURM's variable for the number of processes, and that number."""
    of_step = "SLURM_STEP_NUM_TASKS"  # a step may have fewer tasks than its allocation
    name = of_step if of_step in environment else "SLURM_NTASKS"
    return name, number(environment, name)


def check_alone(found: str) -> None:
    """Refuse to train alone in a process that its launcher started as one of several.

    found: how it comes that this process is alone, as half a sentence. A process that `loosestep run -n 1` started
    is meant to be alone. Raises RuntimeError.
    """
    environment = os.environ
    by_us = [("loosestep run", BY_LOOSESTEP, number(environment, BY_LOOSESTEP))]
    for launcher, name, count in by_us if BY_LOOSESTEP in environment else claims(environment):
        if count > 1:
            raise RuntimeError(
                f"{launcher} started this process as one of {count} ({name}={environment[name]}), but {found}: "
                f"each would train alone, on all data. {remedy(count)}"
            )


def remedy(count: int | str) -> str:
    """Return what to do, as a sentence."""
    by_zmq = "say on=loosestep.ZMQ(), which finds rank 0 by MASTER_ADDR and MASTER_PORT or by SLURM's variables"
    if importlib.util.find_spec("zmq") is None:
        by_zmq = "pip install 'loosestep[zmq]', which joins the processes of torchrun and srun as they are"
    return (
        f"Start the script by `loosestep run -n {count} SCRIPT` or by the mpiexec of mpi4py's MPI (under SLURM "
        f"also `srun --mpi=pmix`), or {by_zmq}, or say on=loosestep.Serial() if each shall train alone"
    )


def tell_guard(word: str) -> None:
    """Write a word into the record that `loosestep run` keeps of this rank, where it was started so."""
    place = os.environ.get(RECORD)
    if place is not None:
        with suppress(OSError), open(place, "a") as file:
            file.write(f"{word}\n")
