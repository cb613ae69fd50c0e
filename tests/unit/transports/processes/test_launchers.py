"""One of several processes that would train alone is refused, whoever started it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loosestep.transports.processes import launchers

REMEDY = "Start the script by `loosestep run -n 4 SCRIPT` or by the mpiexec of mpi4py's MPI"


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No launcher has started this process."""
    for name in list(os.environ):
        if name.startswith(("OMPI_", "PMI", "MPI_", "MV2_", "WORLD_SIZE", "TORCHELASTIC", "SLURM_", "LOOSESTEP_")):
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (
            {"OMPI_COMM_WORLD_SIZE": "4"},
            r"an MPI launcher started this process as one of 4 \(OMPI_COMM_WORLD_SIZE=4\)",
        ),
        ({"PMI_SIZE": "4"}, "an MPI launcher started this process as one of 4"),
        (
            {"WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "x"},
            r"^torchrun started this process as one of 4 \(WORLD_SIZE=4",
        ),
        ({"WORLD_SIZE": "4"}, "^a launcher of torch.distributed started this process as one of 4"),
        (
            {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"},
            r"^SLURM started this process as one of 4 \(SLURM_NTASKS=4\)",
        ),
        ({"LOOSESTEP_RANKS": "4"}, r"^loosestep run started this process as one of 4 \(LOOSESTEP_RANKS=4\)"),
    ],
)
def test_one_of_several_is_refused(environment: dict[str, str], words: str, bare: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        bare.setenv(name, value)
    with pytest.raises(RuntimeError, match=words) as error:
        launchers.check_alone("it says so")
    assert ", but it says so: each would train alone, on all data. " in str(error.value)
    assert REMEDY in str(error.value)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OMPI_COMM_WORLD_SIZE": "1"},
        {"WORLD_SIZE": "many"},
        {"SLURM_NTASKS": "4"},
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1"},
        {"LOOSESTEP_RANKS": "1", "OMPI_COMM_WORLD_SIZE": "4"},
    ],
)
def test_one_that_is_meant_to_be_alone_is_not(environment: dict[str, str], bare: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        bare.setenv(name, value)
    launchers.check_alone("it says so")


def test_an_mpi_that_started_it_is_seen(bare: pytest.MonkeyPatch) -> None:
    assert not launchers.started_by_mpi()
    bare.setenv("PMIX_RANK", "0")
    assert launchers.started_by_mpi()


def test_the_guard_is_told_where_there_is_one(tmp_path: Path, bare: pytest.MonkeyPatch) -> None:
    launchers.tell_guard("begun")
    bare.setenv(launchers.RECORD, str(tmp_path / "record"))
    launchers.tell_guard("begun")
    launchers.tell_guard("heard")
    assert (tmp_path / "record").read_text() == "begun\nheard\n"
    bare.setenv(launchers.RECORD, str(tmp_path / "missing" / "record"))
    launchers.tell_guard("begun")  # a guard that is gone is no reason to fail


def test_the_place_on_a_host_is_what_the_launcher_says() -> None:
    assert launchers.local_rank({"LOCAL_RANK": "3", "SLURM_LOCALID": "1"}) == 1
    assert launchers.local_rank({"OMPI_COMM_WORLD_LOCAL_RANK": "2", "SLURM_LOCALID": "0"}) == 2
    with pytest.raises(
        RuntimeError, match="does not say which process of its host this is: none of OMPI_COMM_WORLD"
    ):
        launchers.local_rank({"RANK": "1"})
