"""A rank that fails, is late or is killed before its run, and what ranks leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.mpi.jobs import Running, alive, ended, has_ended, mpiexec_of, needs_mpi, script, started

from loosestep.cli import launch
from loosestep.cli.launch import guard, records

pytestmark = needs_mpi
rarely = pytest.mark.slow  # what tests without processes show as well

RUN = """
import os, signal, subprocess, sys, time
import numpy as np
import loosestep as ls
me = int(os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMI_RANK", "0")))
on = ls.MPI(deadline={deadline})
{before}
def gradient(x, batch):
    {within}
    return x - batch
batches = lambda rank, size: iter([1.0] * {steps})
result = ls.run(ls.LocalSGD(5), gradient, np.zeros(8), batches, on=on, **{options})
print("done", result.steps, flush=True)
"""


def program(folder: Path, before: str = "", within: str = "pass", **more: object) -> Path:
    filled = {"deadline": 600, "steps": 20, "options": {}, **more}
    return script(folder, RUN.format(before=before, within=within, **filled))


def named(job: Running, how: str) -> bool:
    return f"rank 1 on {os.uname().nodename} (process " in job.err and f") {how}\n" in job.err


FAILURES = {
    "raises": ("on.rank\nif me == 1: raise FileNotFoundError('no data')", 1, "ended with exit code 1"),
    "exits": ("on.rank\nif me == 1: sys.exit(3)", 3, "ended with exit code 3"),
    "killed": ("on.rank\nif me == 1: os.kill(os.getpid(), 9)", 137, "was killed by signal 9 (Killed)"),
}
HEARD = {
    "raises": "worker 1 failed before its run: FileNotFoundError: no data",
    "exits": "worker 1 ended before its run began",
    "killed": "worker 1 failed: without a word",
}


@pytest.mark.parametrize("how", ["exits", *(pytest.param(how, marks=rarely) for how in ("raises", "killed"))])
def test_a_rank_that_fails_between_the_start_of_mpi_and_its_run(how: str, tmp_path: Path) -> None:
    before, code, words = FAILURES[how]
    job = ended("-n", 3, "--linger", 1000, program(tmp_path, before), seconds=100)
    assert job.process.returncode == code, job.err
    assert named(job, words), job.err
    if launch.find().survives:
        assert job.err.count(f"loosestep.foundation.errors.PeerFailed: {HEARD[how]}") == 2, job.err
    assert "done" not in job.out


@pytest.mark.parametrize("how", ["raises", *(pytest.param(how, marks=rarely) for how in ("exits", "killed"))])
def test_a_rank_that_fails_before_the_start_of_mpi(how: str, tmp_path: Path) -> None:
    before, code, words = FAILURES[how]
    job = ended("-n", 3, "--linger", 1000, program(tmp_path, before.removeprefix("on.rank\n")), seconds=100)
    assert job.process.returncode == code, job.err
    assert named(job, words), job.err
    if launch.find().survives:
        assert "the other ranks had 5 s to end by themselves, and were ended" in job.err


@rarely
@pytest.mark.skipif(sys.platform != "linux", reason="guards are known on Linux alone")
def test_ctrl_c_ends_a_rank_that_waits_in_mpis_start_for_one_that_has_ended(tmp_path: Path) -> None:
    """In MPI's start Python heeds no signal, as here."""
    before = "if me == 1: signal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(600)"
    with started("-n", 2, program(tmp_path, before)) as job:
        job.wait_for("up", 2)
        job.process.send_signal(signal.SIGINT)
        assert job.end(60) == 130
        assert "the other ranks had 5 s to end by themselves, and were ended" in job.err
        assert job.left() == []


@rarely
def test_a_rank_that_fails_between_two_runs_is_heard(tmp_path: Path) -> None:
    before = "ls.run(ls.LocalSGD(5), lambda x, b: x - b, np.zeros(8), lambda r, n: iter([1.0] * 9), on=on)"
    lines = [before, "if me == 1: raise ArithmeticError('boo')"]
    job = ended("-n", 2, "--linger", 1000, program(tmp_path, "\n".join(lines)), seconds=100)
    assert job.process.returncode == 1, job.err
    if launch.find().survives:
        assert "PeerFailed: worker 1 failed after its run: ArithmeticError: boo" in job.err


def test_who_has_not_begun_is_named_after_the_deadline(tmp_path: Path) -> None:
    job = ended("-n", 3, program(tmp_path, "on.rank\nif me == 1: time.sleep(600)", deadline=2), seconds=100)
    assert job.process.returncode == 1, job.err
    words = "at its beginning for worker 1, which has not begun its run"
    for rank in (0, 2):
        assert f"TimedOut: worker {rank} waited 2 s {words}" in job.err


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_killed_guard_ends_the_job(tmp_path: Path) -> None:
    before = "print('up', flush=True)\nif me == 1: time.sleep(600)"
    with started("-n", 3, "--linger", 1000, program(tmp_path, before)) as job:
        job.wait_for("up", 3)
        ranks = {records.rank_of(pid, guard.RANKS): pid for pid in records.guards(mpiexec_of(job))}
        victim = ranks["1"]
        os.kill(victim, signal.SIGKILL)
        assert job.end(60) == 137
        assert f"the guard of rank 1 (process {victim}) was killed, and the rank with it" in job.err
        assert job.left() == []


@pytest.mark.parametrize("apart", [False, True], ids=["group", "session"])
def test_a_helper_process_does_not_hold_up_the_job(apart: bool, tmp_path: Path) -> None:
    """A rank's helper has its output, for which mpiexec waits; one in a session of its own is not ours to end."""
    lines = [
        f"helper = subprocess.Popen(['sleep', '400'], start_new_session={apart}, env={{}}) if me == 1 else None",
        "print('helper', helper.pid if helper else 0, flush=True)",
    ]
    with started("-n", 2, program(tmp_path, "\n".join(lines))) as job:
        assert job.end(60) == 0
        assert job.out.count("done 20") == 2
        pid = max(int(line.split()[1]) for line in job.out.splitlines() if line.startswith("helper "))
        if not apart:
            assert has_ended(pid)
        else:
            assert alive(pid)
            assert "all ranks have ended, but not what one of them started" in job.err
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("hosts", "how"),
    [
        ("None", "sys.exit(0)"),
        ("[1, 1]", "sys.exit(0)"),
        pytest.param("None", "raise ArithmeticError('boo')", marks=rarely),
        pytest.param("[1, 1]", "raise ArithmeticError('boo')", marks=rarely),
    ],
)
def test_a_forked_copy_of_a_rank_has_no_part_in_the_run(hosts: str, how: str, tmp_path: Path) -> None:
    lines = [
        "global count",
        "    count += 1",
        "    if me == 1 and count == 5:",
        "        pid = os.fork()",
        "        if pid == 0:",
        f"            {how}",
        "        print('copy', os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)",
    ]
    before = f"count = 0\non = ls.MPI(hosts={hosts})"
    job = ended("-n", 2, program(tmp_path, before, "\n".join(lines)), seconds=100)
    assert job.process.returncode == 0, job.err
    assert job.out.count("done 20") == 2
    assert f"copy {0 if 'exit' in how else 1}\n" in job.out
    assert "failed" not in job.err


def test_sigterm_saves_as_ctrl_c_does(tmp_path: Path) -> None:
    within = "print('going', flush=True); time.sleep(0.01)"
    options = {"checkpoint": str(tmp_path / "kept")}
    file = program(tmp_path, "", within, steps=100_000, options=options)
    with started("-n", 2, file) as job:
        job.wait_for("going", 6)
        job.process.send_signal(signal.SIGTERM)
        assert job.end(60) == 143
        assert job.left() == []
    assert "loosestep: interrupted after step " in job.err
    assert f" by SIGTERM; saved to {tmp_path / 'kept'}" in job.err
    assert "Traceback" not in job.err
    assert (tmp_path / "kept" / "manifest.json").exists()


# --- without MPI ---------------------------------------------------------------------------------------------

DAEMON = """
import sys, threading, time
import numpy as np
import loosestep as ls
x, big = np.ones(1 << 16), ls.Threads(3)
def go():
    while True:
        ls.run(ls.LocalSGD(4), lambda x, b: x - b, np.zeros(8), lambda r, n: iter([1.0] * 20), on=big)
        ls.ops.scale(x, 1.0)
for _ in range(2):
    threading.Thread(target=go, daemon=True).start()
time.sleep(0.5)
print("main ends", flush=True)
"""


@pytest.mark.parametrize("time", range(3))
def test_runs_in_daemon_threads_do_not_abort_the_interpreter(time: int) -> None:
    done = subprocess.run([sys.executable, "-c", DAEMON], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "main ends\n"), done.stderr
    assert "terminate called" not in done.stderr
