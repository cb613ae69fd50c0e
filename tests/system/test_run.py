"""`loosestep run`: what ranks are given, how a job ends, and that nothing outlives it."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest
from tests.mpi.jobs import ended, mpiexec_of, needs_mpi, script, started

from loosestep.cli import launch
from loosestep.cli.commands import main
from loosestep.cli.launch import mpiexec
from loosestep.cli.launch.job import Job, Limits

HELLO = """
import os, sys
from mpi4py import MPI
world = MPI.COMM_WORLD
told = world.allreduce(world.rank + 1)
wanted = os.environ["LOOSESTEP_RANKS"], os.environ["OMP_NUM_THREADS"]
print("rank", world.rank, "of", world.size, "sum", told, *wanted, *sys.argv[1:])
"""
WAITING = """
import signal, sys, time
from mpi4py import MPI
if "stubborn" in sys.argv:
    signal.signal(signal.SIGINT, lambda *_: print("heard", flush=True))
print("up", flush=True)
try:
    time.sleep(100)
    time.sleep(100)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
ENDING = """
import os, sys, time
from mpi4py import MPI
world = MPI.COMM_WORLD
world.Barrier()
if world.rank == 1:
    {how}
"""
OPEN_MPI = "mpiexec (Open MPI) 5.0.11\n\nReport bugs to https://www.open-mpi.org/community/help/\n"
OLD = "mpiexec (OpenRTE) 4.1.4\n\nReport bugs to http://www.open-mpi.org/community/help/\n"
MPICH = "HYDRA build details:\n    Version:                                 5.0.2\n    Release Date: Fri\n"


UNSTARTED = """
import pathlib, sys
times = pathlib.Path(sys.argv[1])
times.write_text(times.read_text() + "x" if times.exists() else "x")
if len(times.read_text()) <= int(sys.argv[2]):
    print("The PMIx server's listener thread failed to start. We cannot", file=sys.stderr)
    sys.exit(213)
"""


@pytest.mark.parametrize(("failures", "code", "starts"), [(0, 0, 1), (2, 0, 3), (9, 213, 4)])
def test_an_mpiexec_that_could_not_start_is_started_again(
    failures: int, code: int, starts: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    times = tmp_path / "times"
    command = [sys.executable, "-c", UNSTARTED, str(times), str(failures)]
    job = Job(mpiexec.identify("/x/mpiexec", OPEN_MPI), command, dict(os.environ), Limits())
    assert job.carry_out() == code
    assert len(times.read_text()) == starts
    assert capfd.readouterr().err.count("trying again") == starts - 1


# --- which MPI ---------------------------------------------------------------------------------------------


def test_the_kinds_of_mpiexec_are_told_apart() -> None:
    found = mpiexec.identify("/x/mpiexec", OPEN_MPI)
    assert (type(found), found.version, found.path) == (mpiexec.OpenMpi, (5, 0, 11), "/x/mpiexec")
    found = mpiexec.identify("/x/mpiexec", MPICH)
    assert (type(found), found.version) == (mpiexec.Mpich, (5, 0, 2))


@pytest.mark.parametrize(
    ("text", "said"),
    [("srun 23.02\n", "says 'srun 23.02'"), ("", "says 'nothing'"), (OLD, "is Open MPI 4.1.4, and 5 or newer is")],
)
def test_another_mpiexec_is_refused(text: str, said: str) -> None:
    with pytest.raises(launch.NoMpi, match=said):
        mpiexec.identify("/x/mpiexec", text)


def test_without_an_mpi_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["run", "-n", "2", str(script(tmp_path, HELLO))]) == 2
    error = capsys.readouterr().err
    assert "pip install 'loosestep[mpi]'" in error
    assert error.count("\n") == 1


def test_the_mpi_beside_python_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, text in (("beside", OPEN_MPI), ("path", MPICH)):
        file = tmp_path / name / "mpiexec"
        file.parent.mkdir()
        file.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\n")
        file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:{os.environ['PATH']}")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "beside" / "python"))
    assert isinstance(launch.find(), mpiexec.OpenMpi)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert isinstance(launch.find(), mpiexec.Mpich)


def test_ranks_get_what_they_need_and_the_user_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mpiexec._core, "info", lambda: {"cores": 2})
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    open_mpi, mpich = mpiexec.OpenMpi("m", (5, 0)), mpiexec.Mpich("m", (5, 0))
    assert "--oversubscribe" in open_mpi.options(3, None, False)
    assert "--oversubscribe" not in open_mpi.options(2, None, False)
    assert open_mpi.options(3, "a:2,b:1", True)[-4:] == ["--host", "a:2,b:1", "--output", "rank"]
    assert mpich.options(3, "a:2,b:1", True) == ["-n", "3", "-hosts", "a:2,b:1", "-prepend-rank"]
    assert mpich.environment(3)["MPIR_CVAR_ENABLE_HEAVY_YIELD"] == "1"
    assert "MPIR_CVAR_ENABLE_HEAVY_YIELD" not in mpich.environment(2)
    given = open_mpi.environment(3)
    assert [given[name] for name in ("LOOSESTEP_RANKS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")] == [
        "3",
        "5",
        "1",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-n", "2"], "Give a SCRIPT, or -m MODULE"),
        (["-n", "2", "no_such.py"], "there is no script no_such.py"),
        (["-n", "0", "x.py"], "0 is not in the range x>=1"),
        (["-n", "2", "--deadline", "0", "x.py"], "0 is not in the range x>0"),
        (["x.py"], "Missing option '-n'"),
        (["-n", "2", "--host", "x", "x.py"], "No such option"),
    ],
)
def test_wrong_use_is_told(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *arguments]) == 2
    assert said in capsys.readouterr().err


# --- a job -------------------------------------------------------------------------------------------------


@needs_mpi
def test_ranks_are_joined_and_get_their_arguments(tmp_path: Path) -> None:
    job = ended("-n", 3, script(tmp_path, HELLO), "--tag", "-n", "7")
    assert job.process.returncode == 0, job.err
    assert sorted(job.out.splitlines()) == [f"rank {rank} of 3 sum 6 3 1 --tag -n 7" for rank in range(3)]


@needs_mpi
def test_lines_come_out_whole_and_all_of_them(tmp_path: Path) -> None:
    text = 'import os\nfor n in range(2000):\n    print("line", n, "of", os.getpid())\nprint("end", end="")'
    job = ended("-n", 3, script(tmp_path, text))
    assert job.process.returncode == 0, job.err
    assert len(re.findall(r"^line \d+ of \d+$", job.out, re.MULTILINE)) == 6000
    assert job.out.count("end") == 3


@needs_mpi
def test_a_module_runs_and_tags_say_which_rank(tmp_path: Path) -> None:
    script(tmp_path, HELLO)
    job = ended(
        "-n", 2, "--tag", "-m", "script", environment={"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "2"}
    )
    assert job.process.returncode == 0, job.err
    lines = sorted(job.out.splitlines())
    assert [line[:3] for line in lines] == ["[0]", "[1]"]
    assert [line.split("rank ")[1] for line in lines] == ["0 of 2 sum 3 2 2", "1 of 2 sum 3 2 2"]


@needs_mpi
@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("sys.exit(3)", 3, "ended with exit code 3"),
        ("raise ValueError('boo')", 1, "ended with exit code 1"),
        ("os.kill(os.getpid(), 9)", 137, r"was killed by signal 9 \(Killed\)"),
        ("os.kill(os.getpid(), 11)", 139, r"was killed by signal 11 \(Segmentation fault\)"),
    ],
)
def test_the_rank_that_fails_is_named_and_its_exit_code_is_the_jobs(
    how: str, code: int, said: str, tmp_path: Path
) -> None:
    job = ended("-n", 3, "--linger", 5, script(tmp_path, ENDING.format(how=how)))
    assert job.process.returncode == code
    assert re.search(rf"loosestep run: rank 1 on \S+ \(process \d+\) {said}\n", job.err)
    assert len(re.findall(r"loosestep run: rank \d", job.err)) == 1


@needs_mpi
def test_an_abort_ends_all_ranks(tmp_path: Path) -> None:
    job = ended("-n", 3, script(tmp_path, ENDING.format(how="world.Abort(7)"), ["time.sleep(100)"]), seconds=30)
    assert job.process.returncode == 7


@needs_mpi
def test_a_program_that_cannot_start_is_told(tmp_path: Path) -> None:
    job = ended("-n", 2, "-m", "no_such_module")
    assert job.process.returncode == 1
    assert "No module named no_such_module" in job.err


@needs_mpi
def test_a_job_past_its_deadline_is_ended(tmp_path: Path) -> None:
    job = ended("-n", 2, "--deadline", 3, script(tmp_path, WAITING), seconds=30)
    assert job.process.returncode == 124
    assert "the job took longer than its deadline of 3 s and was ended" in job.err


@needs_mpi
def test_ranks_that_outlive_one_that_failed_have_so_long(tmp_path: Path) -> None:
    if not launch.find().survives:
        pytest.skip("this MPI ends all ranks at once")
    text = ENDING.format(how="os.kill(os.getpid(), 9)")
    job = ended("-n", 3, "--linger", 2, script(tmp_path, text, ["time.sleep(100)"]), seconds=30)
    assert job.process.returncode == 137
    assert "the other ranks had 2 s to end by themselves, and were ended" in job.err


# --- signals and orphans -----------------------------------------------------------------------------------


@needs_mpi
@pytest.mark.parametrize(("number", "code", "heard"), [(signal.SIGINT, 130, 2), (signal.SIGTERM, 143, 0)])
def test_a_signal_reaches_every_rank_once(number: int, code: int, heard: int, tmp_path: Path) -> None:
    with started("-n", 2, script(tmp_path, WAITING)) as job:
        job.wait_for("up", 2)
        job.process.send_signal(number)
        assert job.end(30) == code
        assert job.out.count("interrupted") == heard
        assert job.left() == []


@needs_mpi
def test_a_second_interrupt_ends_ranks_that_do_not_heed_the_first(tmp_path: Path) -> None:
    with started("-n", 2, script(tmp_path, WAITING), "stubborn") as job:
        job.wait_for("up", 2)
        job.process.send_signal(signal.SIGINT)
        job.wait_for("heard", 2)
        job.process.send_signal(signal.SIGINT)
        assert job.end(30) == 130
        assert job.left() == []


@needs_mpi
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
@pytest.mark.parametrize("victims", [["launcher"], ["mpiexec"], ["launcher", "mpiexec"]], ids="-".join)
def test_nothing_outlives_what_was_killed(victims: list[str], tmp_path: Path) -> None:
    with started("-n", 2, script(tmp_path, WAITING), "stubborn") as job:
        job.wait_for("up", 2)
        pids = {"launcher": job.process.pid, "mpiexec": mpiexec_of(job)}
        for victim in victims:
            os.kill(pids[victim], signal.SIGKILL)
        assert job.end(30) == (137 if victims == ["mpiexec"] else -9)
        assert job.left() == []


@pytest.mark.parametrize("on", ["MPI()", pytest.param("Delayed(MPI())", marks=pytest.mark.slow)])
def test_of_a_comparison_in_processes_rank_0_alone_shows_and_writes(on: str, tmp_path: Path) -> None:
    """The others, which have made no evaluation, would write their files over those of rank 0."""
    file, folder = tmp_path / "rows.json", tmp_path / "out"
    options = ["--strategies", "LocalSGD(8)", "--epochs", 1, "--seeds", 1, "--target", 0.1, "--on", on]
    job = ended("-n", 2, "-m", "loosestep", "compare", *options, "--json", file, "--out", folder, seconds=100)
    assert job.process.returncode == 0, job.err
    assert job.out.count("one test row is") == 1
    assert json.loads(file.read_text())[0]["seconds_to_target"] > 0
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert len(steps) > 2
