"""What `on=` means where it is left out."""

from __future__ import annotations

from typing import Any

import pytest

import loosestep as ls
from loosestep.transports import launched
from loosestep.transports.processes.launchers import BY_MPI

TORCH = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "h", "MASTER_PORT": "29500"}
SLURM = {"SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_NODELIST": "a[1-2]"}
OURS = {"LOOSESTEP_RANK": "1", "LOOSESTEP_RANKS": "2", "LOOSESTEP_ADDRESS": "ipc:///x/meet"}
MPI = {"OMPI_COMM_WORLD_SIZE": "2"}
NAMES = {*BY_MPI, *TORCH, *SLURM, *OURS, "SLURM_STEP_NUM_TASKS", "TORCHELASTIC_RUN_ID"}


def joined(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], *packages: str) -> Any:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(launched, "is_there", packages.__contains__)
    return launched.joined()


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, None),
        (TORCH, ls.ZMQ()),
        (SLURM, ls.ZMQ()),
        (OURS, ls.ZMQ()),
        (MPI, ls.MPI()),
        ({"PMIX_RANK": "0"}, ls.MPI()),
        ({**SLURM, "PMI_SIZE": "2"}, ls.MPI()),
        ({**MPI, **OURS}, ls.ZMQ()),
        ({**TORCH, "OMPI_COMM_WORLD_SIZE": "1"}, ls.ZMQ()),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, None),
        ({**SLURM, "OMPI_COMM_WORLD_SIZE": "1"}, None),
        ({**TORCH, "LOOSESTEP_RANKS": "1"}, None),
    ],
    ids=str,
)
def test_what_the_launcher_implies(
    environment: dict[str, str], wanted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = joined(monkeypatch, environment, "zmq", "mpi4py")
    assert (type(found), found) == (type(wanted), wanted)


def test_srun_with_pmi_does_without_mpi(monkeypatch: pytest.MonkeyPatch) -> None:
    assert joined(monkeypatch, {**SLURM, "PMI_SIZE": "2"}, "zmq") == ls.ZMQ()


@pytest.mark.parametrize(
    ("environment", "wanted", "asked"),
    [({}, "Serial()", 1), (TORCH, "ZMQ()", 0), ({"OMPI_COMM_WORLD_SIZE": "1"}, "MPI()", 0)],
)
def test_who_may_be_alone_is(
    environment: dict[str, str], wanted: str, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined(monkeypatch, environment, "zmq", "mpi4py")
    others: list[str] = []
    assert repr(launched.launched(lambda: others.append("asked"))) == wanted
    assert len(others) == asked


@pytest.mark.parametrize("environment", [TORCH, SLURM])
def test_without_pyzmq_they_are_refused(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="started this process as one of 2 .* but nothing joins it"):
        joined(monkeypatch, environment, "mpi4py")


def test_packages_are_looked_for() -> None:
    assert launched.is_there("numpy")
    assert not launched.is_there("no_such_package")
