"""Processes, threads and the simulator give the same; run by every rank of a job, see tests/mpi/contract.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.mpi.jobs import ended, needs_mpi

ROOT = Path(__file__).parents[2]


@needs_mpi
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_processes_agree_with_threads_and_the_simulator(ranks: int, tmp_path: Path) -> None:
    script = ROOT / "tests" / "mpi" / "contract.py"
    job = ended("-n", ranks, script, tmp_path, seconds=240, environment={"PYTHONPATH": str(ROOT)})
    assert job.process.returncode == 0, job.err
    assert job.out.count("all agrees") == ranks
