"""Processes, threads and the simulator give the same; run by every rank of a job, see tests/mpi/contract.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.mpi.jobs import ended, needs_mpi

ROOT = Path(__file__).parents[2]


@needs_mpi
@pytest.mark.parametrize("ranks", [*(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3)), 4])
def test_processes_agree_with_threads_and_the_simulator(ranks: int, tmp_path: Path) -> None:
    script = ROOT / "tests" / "mpi" / "contract.py"
    job = ended("-n", ranks, script, tmp_path, seconds=240, environment={"PYTHONPATH": str(ROOT)})
    assert job.process.returncode == 0, job.err
    assert job.out.count("all agrees") == ranks


ODD = {
    (
        "size",
        1,
    ): "rank 1 asked for all_reduce(mean) of 5 float64, rank 0 for all_reduce(mean) of 6 float64, in round 1",
    (
        "size",
        2,
    ): "rank 3 asked for all_reduce(mean) of 6 float64, rank 2 for all_reduce(mean) of 5 float64, in round 1",
    (
        "op",
        3,
    ): "rank 3 asked for all_reduce(max) of 6 float64, rank 2 for all_reduce(sum) of 6 float64, in round 1",
    ("kind", 3): "worker 3 waits at Broadcast(6 float64, 0) in round 1",
    ("number", 3): "worker 3 waits at RollCall(2) in round 1",
}
"""For what a worker asks unlike the others: what is said of it."""
SHOWN = (("size", 2), ("kind", 3))  # the others are found by tests/mpi/test_liveness.py, without processes


@needs_mpi
@pytest.mark.parametrize(
    ("what", "who"), [pytest.param(*case, marks=() if case in SHOWN else pytest.mark.slow) for case in ODD]
)
def test_what_does_not_fit_on_two_hosts_ends_the_job(what: str, who: int) -> None:
    script = ROOT / "tests" / "mpi" / "unequal.py"
    job = ended("-n", 4, "--tag", script, what, who, seconds=120, environment={"PYTHONPATH": str(ROOT)})
    assert job.process.returncode == 1, job.err
    for rank in range(4):
        lines = [line for line in job.err.splitlines() if line.startswith(f"[{rank}]")]
        assert any("Mismatch" in line or "PeerFailed" in line for line in lines), f"rank {rank}: {job.err}"
    assert ODD[what, who] in job.err
    assert "done" not in job.out


@needs_mpi
@pytest.mark.parametrize(("hosts", "files"), [("1,1", 9), ("2,2", 11)])
def test_an_average_between_hosts_goes_through_few_files(hosts: str, files: int) -> None:
    """Of some rank: to rank 0 the roll calls of others come as well."""
    ranks = sum(map(int, hosts.split(",")))
    script = ROOT / "tests" / "calls.py"
    job = ended("-n", ranks, script, "average", hosts, seconds=120, environment={"PYTHONPATH": str(ROOT)})
    assert job.process.returncode == 0, job.err
    found = [int(line.split()[2]) for line in job.out.splitlines() if line.startswith("rank ")]
    assert len(found) == ranks, job.out
    assert min(found) <= files, job.out
