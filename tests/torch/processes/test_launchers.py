"""A process that a launcher started as one of several never trains alone without a word."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.torch.training import mlp, momentum  # noqa: E402

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402
from loosestep.torch.setup import launched  # noqa: E402
from loosestep.transports.mpi import membership  # noqa: E402
from loosestep.transports.processes import launchers  # noqa: E402

OTHERS = ("WORLD_SIZE", "RANK", "TORCHELASTIC_RUN_ID", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nobody started this process; MPI knows of it alone."""
    for name in (*launchers.BY_MPI, *OTHERS, launchers.BY_LOOSESTEP):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(membership, "world", lambda: SimpleNamespace(size=1, rank=0))
    return monkeypatch


def made(on: ls.Transport | None = None) -> Any:
    net = mlp()
    return loosestep.torch.parallel(net, momentum(net.parameters()), ls.LocalSGD(2), on)


def ran(on: ls.Transport | None = None) -> ls.Result:
    return ls.run(ls.LocalSGD(2), lambda x, batch: x, np.ones(3), lambda rank, size: iter([0] * 4), on=on)


TORCHRUN = {"WORLD_SIZE": "2", "RANK": "0", "TORCHELASTIC_RUN_ID": "none"}
SEVERAL = [
    (TORCHRUN, r"torchrun started this process as one of 2 \(WORLD_SIZE=2\)"),
    ({"WORLD_SIZE": "3", "RANK": "1"}, r"a launcher of torch.distributed started this process as one of 3"),
    ({"SLURM_PROCID": "1", "SLURM_NTASKS": "4"}, r"SLURM started this process as one of 4 \(SLURM_NTASKS=4\)"),
    ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "2"}, r"\(SLURM_STEP_NUM_TASKS=2\)"),
    ({"PMI_SIZE": "2"}, r"an MPI launcher started this process as one of 2 \(PMI_SIZE=2\)"),
    ({"MPI_LOCALNRANKS": "2", "PMI_SIZE": "1"}, r"as one of 2 \(MPI_LOCALNRANKS=2\)"),
    ({"OMPI_COMM_WORLD_SIZE": "5"}, r"as one of 5 \(OMPI_COMM_WORLD_SIZE=5\)"),
    ({"PMIX_RANK": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, r"SLURM started this process as one of 2"),
    ({"OMPI_COMM_WORLD_SIZE": "1", **TORCHRUN}, r"torchrun started this process as one of 2"),
]


@pytest.mark.parametrize(("variables", "said"), SEVERAL, ids=str)
def test_one_of_several_is_refused(environment: pytest.MonkeyPatch, variables: dict[str, str], said: str) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    for alone in (made, ran, lambda: made(ls.MPI()), lambda: ran(ls.MPI()), lambda: ls.MPI().rank):
        with pytest.raises(RuntimeError, match=said) as caught:
            alone()
        assert "Start the script by `loosestep run -n" in str(caught.value)
    assert made(ls.Serial()).size == 1, "who says so may train alone"
    assert ran(ls.Serial()).steps == 4


def test_run_without_a_transport_under_loosestep_run(environment: pytest.MonkeyPatch) -> None:
    environment.setenv(launchers.BY_LOOSESTEP, "2")
    with pytest.raises(
        RuntimeError, match=r"loosestep run started this process as one of 2 \(LOOSESTEP_RANKS=2\)"
    ):
        ran()


ALONE = [
    {},
    {"WORLD_SIZE": "1", "RANK": "0", "TORCHELASTIC_RUN_ID": "none"},
    {"SLURM_PROCID": "0", "SLURM_NTASKS": "1"},  # the batch step of one task
    {"SLURM_NTASKS": "4"},  # a shell in an allocation
    {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1"},
    {"OMPI_COMM_WORLD_SIZE": "1", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"},  # mpiexec -n 1 in an allocation
    {"LOOSESTEP_RANKS": "1", **TORCHRUN},
    {"WORLD_SIZE": "a word"},
]


@pytest.mark.parametrize("variables", ALONE, ids=str)
def test_one_of_one_is_alone(environment: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    assert repr(launched()) == ("MPI()" if "OMPI_COMM_WORLD_SIZE" in variables else "Serial()")
    assert ls.MPI().size == 1
    assert ran().steps == 4


def test_a_process_group_is_not_joined(environment: pytest.MonkeyPatch) -> None:
    environment.setattr(torch.distributed, "is_initialized", lambda: True)
    environment.setattr(torch.distributed, "get_world_size", lambda: 3)
    with pytest.raises(
        RuntimeError, match=r"torch\.distributed has a process group of 3, which parallel\(\) does"
    ):
        made()


def spawned(rank: int) -> None:
    if rank == 0:  # the first may be the only one
        assert launched() == ls.Serial()
    else:
        with pytest.raises(RuntimeError, match=r"torch\.multiprocessing\.spawn started this process as number 1"):
            launched()


def test_spawned_processes_beside_the_first_are_refused() -> None:
    torch.multiprocessing.start_processes(spawned, nprocs=2, start_method="fork")
