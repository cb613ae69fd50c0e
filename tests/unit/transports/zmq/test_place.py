"""Which process this is, by every launcher's variables."""

from __future__ import annotations

import pytest

from loosestep.transports.zmq import place
from loosestep.transports.zmq.place import Place, explicit, first_node, found, told

TORCH = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "n1", "MASTER_PORT": "29500"}
SLURM = {
    "SLURM_PROCID": "2", "SLURM_NTASKS": "3", "SLURM_NODELIST": "n[003-5],m",
    "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0",
}  # fmt: skip
OURS = {"LOOSESTEP_RANK": "1", "LOOSESTEP_RANKS": "2", "LOOSESTEP_ADDRESS": "ipc:///x/meet"}


def test_loosestep_has_the_last_word() -> None:
    assert told({**TORCH, **OURS}) == Place(1, 2, ("ipc:///x/meet",), "ipc:///x/meet")
    assert told({**TORCH, "LOOSESTEP_RANKS": "1"}) is None, "`loosestep run -n 1` in a job of torchrun"


def test_torchs_variables_and_ports_beside_its_own() -> None:
    one = told(TORCH)
    assert one is not None
    assert (one.rank, one.size) == (1, 4)
    assert len(set(one.endpoints)) == place.CHOICES
    assert not any(end.endswith(":29500") for end in one.endpoints)
    assert not one.local
    other = told({**TORCH, "MASTER_PORT": "29501"})
    assert other is not None
    assert set(one.endpoints).isdisjoint(other.endpoints), "jobs at neighbouring ports do not meet"
    assert one.job != other.job
    again = told({**TORCH, "TORCHELASTIC_RESTART_COUNT": "1"})
    assert again is not None
    assert again.job != one.job, "a rank of the attempt before is another job's"


@pytest.mark.parametrize("port", [1, 1024, 65535])
def test_every_port_has_ports_beside_it(port: int) -> None:
    ports = [int(end.rpartition(":")[2]) for end in place.beside("h", port)]
    assert all(1024 <= each < 65536 for each in ports)
    assert len(set(ports)) == place.CHOICES


def test_slurms_variables_and_its_first_node() -> None:
    one = told(SLURM)
    assert one is not None
    assert (one.rank, one.size, one.job) == (2, 3, "SLURM 7 0")
    assert one.endpoints[0].startswith("tcp://n003:")
    assert told({**SLURM, "SLURM_STEP_NUM_TASKS": "1"}) is None, "a step of one task"
    assert told({**SLURM, "OMPI_COMM_WORLD_SIZE": "1"}) is None, "mpiexec -n 1 in an allocation"
    here = told({**SLURM, "SLURM_NODELIST": "n3", "SLURMD_NODENAME": "n3"})
    assert here is not None
    assert here.local


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("n1", "n1"),
        ("n1,n2", "n1"),
        ("n[3,5]", "n3"),
        ("n[003-017,20]-ib,m[1-2]", "n003-ib"),
        ("a-b[2-3]", "a-b2"),
    ],
)
def test_the_first_node_of_a_list(nodes: str, first: str) -> None:
    assert first_node(nodes) == first


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WORLD_SIZE": "1", "RANK": "0", "MASTER_ADDR": "h", "MASTER_PORT": "1"},
        {"WORLD_SIZE": "2", "RANK": "0"},
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "2"},
        {"SLURM_NTASKS": "2", "SLURM_NODELIST": "a"},
    ],
)
def test_what_says_too_little_is_no_place(environment: dict[str, str]) -> None:
    assert told(environment) is None


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({**TORCH, "RANK": "4"}, "RANK must be below 4, the number of processes, got '4'"),
        ({**TORCH, "MASTER_PORT": "x"}, "MASTER_PORT must be the number of a port, got 'x'"),
        ({**OURS, "LOOSESTEP_RANK": "-1"}, "LOOSESTEP_RANK must be below 2"),
    ],
)
def test_what_cannot_be_is_refused(environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(RuntimeError, match=sentence):
        told(environment)


def test_who_was_started_alone_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "SLURM_PROCID", "LOOSESTEP_RANKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert found({}) == Place(0, 1, (), "alone")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="as one of 2 .* its environment does not say where rank 0 can be met"):
        found({"WORLD_SIZE": "2"})


def test_a_place_that_is_said() -> None:
    assert explicit(None, None, None) is None
    one = explicit(1, 2, "127.0.0.1:29400")
    assert one == Place(1, 2, ("tcp://127.0.0.1:29400",), "127.0.0.1:29400")
    assert one.local
    for given, kind, sentence in [
        ((1, None, "h:1"), ValueError, "rank, size and address belong together, and size are missing"),
        ((2, 2, "h:1"), ValueError, "rank must be below 2"),
        ((0, 0, "h:1"), ValueError, "size must be at least 1"),
        ((0, 2, "nowhere"), ValueError, "address must be host:port"),
        ((0, 2, "h:70000"), ValueError, "address must be host:port"),
        ((0, 2, ":29400"), ValueError, "address must be host:port"),
    ]:
        with pytest.raises(kind, match=sentence):
            explicit(*given)  # type: ignore[arg-type]
