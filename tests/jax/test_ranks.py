"""JAX loops in two processes: one job for all cases, since each would import JAX and compile."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.mpi.jobs import ended, needs_mpi

pytest.importorskip("jax")
pytest.importorskip("optax")


@needs_mpi
def test_every_case_ends_well_on_every_rank() -> None:
    job = ended("-n", 2, Path(__file__).with_name("ranks.py"), seconds=240, environment={"OMP_NUM_THREADS": "1"})
    assert job.process.returncode == 0, job.out + job.err
    cases = [line.split(": ")[1] for line in job.out.splitlines() if line.startswith("rank 0: ")]
    assert len(cases) == 8
    assert all(job.out.count(f"rank {rank}: {case}\n") == 1 for case in cases for rank in range(2)), job.out
