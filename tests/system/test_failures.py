"""The failure table: rank 1 of three misbehaves, and nobody hangs, everybody says who it was, and the run resumes.

pytest -m failures
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.mpi.jobs import Running, ended, mpiexec_of, needs_mpi, started, wait_for_file

from loosestep.cli import launch

pytestmark = [needs_mpi, pytest.mark.failures]

SCRIPT = Path(__file__).parents[1] / "mpi" / "misbehaving.py"
LIMIT = 40  # seconds: the job's deadline, which no row may need
ALL, OTHERS = (0, 1, 2), (0, 2)

ROWS = {
    "killed": (137, OTHERS, "worker 1 failed: without a word"),
    "raises": (1, ALL, "worker 1 failed in round 5, at Gradient(): ArithmeticError: boo"),
    "exits": (1, ALL, "worker 1 failed in round 5, at Gradient(): SystemExit: 3"),
    "no memory": (1, ALL, "worker 1 failed in round 5, at Gradient(): MemoryError: Unable to allocate 1.00 EiB"),
    "little memory": (
        1,
        ALL,
        "worker 1 failed in round 5, at Gradient(): MemoryError: Unable to allocate 8.00 MiB",
    ),
    "skips": (1, ALL, "rank 1 asked for all_reduce(max) of 4 float64, rank 0 for all_reduce(mean) of 64 float64"),
    "late": (1, ALL, "worker 1, which is at Gradient() ("),
    "stopped": (1, OTHERS, "worker 1, which shows no sign of life (dead, stopped, or cut off)"),
}
"""For how rank 1 fails in its 20th step: the job's exit code, and what which ranks say.

The kernel ends a process that has no memory left by SIGKILL, as `killed`; a limit of its own is `little memory`. A
worker that skips an average is found at the next checkpoint, where it asks for another collective.
"""

LIKE_OTHERS = ("exits", "no memory", "little memory", "late")
"""Rows that differ from others by the exception alone, or that the unit tests have without processes."""


def shown(how: str, slow: tuple[str, ...], *others: object) -> Any:
    """Return the parameters of a row, marked slow where it is one of these."""
    return pytest.param(how, *others, marks=pytest.mark.slow if how in slow else ())


UNEQUAL = {
    "longer": "worker 1 has parameters 65 float64, worker 0 has parameters 64 float64",
    "other type": "worker 1 has parameters 64 float32, worker 0 has parameters 64 float64",
    "other strategy": "worker 1 has strategy Skipping(period=5), worker 0 has strategy Skipping(period=4)",
    "alone": "started 3 ranks, but MPI knows of 1: mpiexec and mpi4py belong to different MPIs",
}
"""For what is wrong from the start: what every rank says."""


def arguments(how: str, folder: Path, steps: int = 60, hosts: str = "") -> list[object]:
    job = ["-n", 3, "--tag", "--deadline", LIMIT, SCRIPT, how, folder / "checkpoint", steps]
    return [*job, hosts] if hosts else job


def said(job: Running, rank: int) -> str:
    """What a rank wrote to standard error."""
    lines = [line for line in job.err.splitlines() if line.startswith(f"[{rank}]")]
    return "\n".join(re.sub(r"^\[\d+\](<stderr>:)? ?", "", line) for line in lines)


def check_resumes(folder: Path, hosts: str = "", environment: dict[str, str] | None = None) -> None:
    """The last checkpoint is whole: a run that nothing happens to goes on from it."""
    assert (folder / "checkpoint" / "manifest.json").exists()
    job = ended(*arguments("none", folder, hosts=hosts), seconds=LIMIT + 10, environment=environment)
    assert job.process.returncode == 0, job.err
    assert job.out.count("done 60") == 3


SPLIT = [
    pytest.param(how, hosts, marks=() if (how, hosts) == ("killed", "1,2") else pytest.mark.slow)
    for how in ("killed", "raises", "stopped")
    for hosts in ("1,2", "1,1,1")
]
"""On which ranks are told by the wire and the heartbeat between hosts; most of them only with `-m failures`."""
LATE = ("raises", "stopped", "late")


@pytest.mark.parametrize(("how", "hosts"), [*(shown(how, LIKE_OTHERS, "") for how in ROWS), *SPLIT])
def test_a_rank_that_fails_in_the_middle(how: str, hosts: str, tmp_path: Path) -> None:
    check_failure(how, tmp_path, hosts)


@pytest.mark.parametrize("how", ["killed", *(pytest.param(how, marks=pytest.mark.slow) for how in LATE)])
def test_a_rank_that_fails_while_an_average_is_under_way(how: str, tmp_path: Path) -> None:
    check_failure(how, tmp_path, environment={"LATE": "1"})


def check_failure(how: str, tmp_path: Path, hosts: str = "", environment: dict[str, str] | None = None) -> None:
    code, ranks, words = ROWS[how]
    job = ended(*arguments(how, tmp_path, hosts=hosts), seconds=LIMIT + 10, environment=environment)
    assert job.process.returncode == code, job.err
    if how == "killed" and not launch.find().survives:
        ranks, words = (1,), "rank 1 on"  # this MPI ends the others before they can speak
    for rank in ranks:
        assert words in said(job, rank), f"rank {rank}: {job.err}"
    assert "done" not in job.out
    check_resumes(tmp_path, hosts, environment)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of step 16."""
    folder = tmp_path_factory.mktemp("earlier")
    job = ended(*arguments("none", folder, 16), seconds=LIMIT + 10)
    assert job.process.returncode == 0, job.err
    return folder


@pytest.mark.parametrize("how", [shown(how, ("longer", "other type")) for how in UNEQUAL])
def test_ranks_that_do_not_fit_together(how: str, earlier: Path, tmp_path: Path) -> None:
    shutil.copytree(earlier, tmp_path, dirs_exist_ok=True)
    job = ended(*arguments(how, tmp_path), seconds=LIMIT + 10)
    assert job.process.returncode == 1, job.err
    for rank in ALL:
        assert UNEQUAL[how] in said(job, rank), f"rank {rank}: {job.err}"
    assert "going" not in job.out
    assert contents(tmp_path) == contents(earlier)


def contents(folder: Path) -> dict[Path, bytes]:
    """Of all files below: what was not touched resumes, as other tests show."""
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


BUSY = [pytest.param(15, 1, id="15s"), pytest.param(60, 3, id="60s", marks=pytest.mark.slow)]
"""For how many seconds a rank is busy, how often the others say so: after 10, 20, 40."""


@pytest.mark.parametrize(("seconds", "times"), BUSY)
def test_a_rank_that_is_long_in_the_users_code_ends_nothing(seconds: int, times: int, tmp_path: Path) -> None:
    given = arguments("busy", tmp_path)
    given[given.index(LIMIT)] = LIMIT + seconds
    job = ended(*given, seconds=LIMIT + seconds + 10, environment={"BUSY": str(seconds)})
    assert job.process.returncode == 0, job.err
    assert job.out.count("done 60") == 3
    place = next(
        number for number, text in enumerate(SCRIPT.read_text().splitlines(), 1) if "time.sleep(float" in text
    )
    for rank in OTHERS:
        lines = re.findall(
            rf"worker {rank} has waited (\d+) s at .* for worker 1, which is at (.*)", said(job, rank)
        )
        assert len(lines) == times, job.err
        assert all(where == f"Gradient() ({SCRIPT}:{place})" for _, where in lines)
        assert said(job, rank).count(f'worker 1 |   File "{SCRIPT}", line {place}, in stay_away') == times
    assert "has waited" not in said(job, 1)


@pytest.mark.parametrize("hosts", ["", pytest.param("1,2", marks=pytest.mark.slow)])
def test_a_rank_that_holds_its_interpreter_is_named_too(hosts: str, tmp_path: Path) -> None:
    job = ended(*arguments("held", tmp_path, hosts=hosts), seconds=LIMIT + 10)
    assert job.process.returncode == 0, job.err
    for rank in OTHERS:
        assert "for worker 1, which is at native code that holds its Python (it does not answer)" in said(
            job, rank
        )


def test_an_interrupted_run_is_saved_and_resumes(tmp_path: Path) -> None:
    with started(*arguments("none", tmp_path, 10_000)) as job:
        job.wait_for("going", 3)
        job.process.send_signal(signal.SIGINT)
        assert job.end(LIMIT) == 130
        assert job.left() == []
    assert job.err.count("loosestep: interrupted after step ") == 1, job.err
    assert f" by Ctrl-C; saved to {tmp_path / 'checkpoint'}\n" in job.err
    assert "Traceback" not in job.err
    check_resumes(tmp_path)


def test_killing_mpiexec_leaves_no_rank_and_a_checkpoint(tmp_path: Path) -> None:
    with started(*arguments("none", tmp_path, 10_000)) as job:
        job.wait_for("going", 3)
        wait_for_file(tmp_path / "checkpoint" / "manifest.json", job)
        os.kill(mpiexec_of(job), signal.SIGKILL)
        assert job.end(LIMIT) == 137
        assert job.left() == []
    check_resumes(tmp_path)
