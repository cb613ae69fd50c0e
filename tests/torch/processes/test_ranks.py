"""Several ranks under mpiexec: the cases of all files that `all_cases.py` lists."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("mpi4py")

from tests.mpi.jobs import ended, lean
from tests.torch.processes import all_cases, over_zmq, ranks_several

ROOT = Path(__file__).parents[3]
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
ALONE = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMP_NUM_THREADS": "1",
}
"""What a small machine and a container need; MPIs that do not know a name pass it by."""


@pytest.mark.skipif(MPIEXEC is None, reason="there is no mpiexec")
@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_every_case_ends_well_on_every_rank(size: int) -> None:
    command = [str(MPIEXEC), "-n", str(size), sys.executable, str(all_cases.__file__)]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=240, env=os.environ | ALONE, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for case in (f"{file.__name__} {name}" for file in all_cases.FILES for name in file.CASES):
        said = [line for line in ended.stdout.splitlines() if line.endswith(f": {case} ok")]
        assert sorted(said) == [f"rank {rank}: {case} ok" for rank in range(size)], ended.stdout


@pytest.mark.skipif(MPIEXEC is None, reason="there is no mpiexec")
@pytest.mark.parametrize(
    ("hosts", "cases"),
    [("1,1", ["uneven_ends"]), *(pytest.param(hosts, [], marks=pytest.mark.slow) for hosts in ("", "1,1"))],
)
def test_several_optimizers_over_zeromq(hosts: str, cases: list[str], tmp_path: Path) -> None:
    pytest.importorskip("zmq")
    arguments = [str(over_zmq.__file__), f"ipc://{tmp_path}/meet", hosts, *cases]
    command = [str(MPIEXEC), "-n", "2", sys.executable, *arguments]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=lean(os.environ | ALONE), check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for name in cases or ranks_several.CASES:
        said = sorted(line for line in ended.stdout.splitlines() if line.endswith(f": {name} ok"))
        assert said == [f"rank {rank}: {name} ok" for rank in range(2)], ended.stdout


@pytest.mark.skipif(MPIEXEC is None, reason="there is no mpiexec")
def test_a_step_at_the_end_of_a_period_goes_through_few_files_and_calls() -> None:
    job = ended("-n", 2, ROOT / "tests" / "calls.py", "torch", 3, seconds=120)
    assert job.process.returncode == 0, job.err
    found = [line.split() for line in job.out.splitlines() if line.startswith("rank ")]
    assert len(found) == 2, job.out
    for _, _, files, _, calls, _, *names in found:
        assert int(files) - names.count("_core") <= 10, job.out
        assert int(calls) <= 45, job.out
