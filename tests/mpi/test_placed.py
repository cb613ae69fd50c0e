"""Vectors in memory that all ranks of a host map, in both loops, against private ones."""

from __future__ import annotations

from pathlib import Path

from tests.mpi.jobs import ended, needs_mpi


@needs_mpi
def test_placed_vectors_have_the_bits_of_private_ones_and_end_as_such() -> None:
    job = ended("-n", 2, Path(__file__).with_name("placed.py"), seconds=120, environment={"OMP_NUM_THREADS": "1"})
    assert job.process.returncode == 0, job.err
    assert job.out.count("the same bits") == 2
