"""What the launcher knows and decides, without any MPI: its folder, guards' records, allocations, limits."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from math import inf
from pathlib import Path
from typing import Any

import pytest
from tests.mpi.jobs import has_ended

from loosestep.cli.commands import main
from loosestep.cli.launch import guard, mpiexec, records
from loosestep.cli.launch.job import EARLY, Job, Limits
from loosestep.transports.processes import launchers

OPEN_MPI = mpiexec.OpenMpi("/x/mpiexec", (5, 0, 11))
UNKNOWN = [name for name in (*mpiexec.SCHEDULED, "SLURM_TASKS_PER_NODE") if name in os.environ]


@pytest.fixture(autouse=True)
def no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in UNKNOWN:
        monkeypatch.delenv(name)


# --- the launcher's folder -----------------------------------------------------------------------------------

HOLDING = """
import os, sys, time
from pathlib import Path
from loosestep.cli.launch import records
records.root = lambda: Path(sys.argv[1])
with records.own_folder() as folder:
    (folder / "sm_segment.0").write_text("left")
    print(folder, flush=True)
    time.sleep(100)
"""


def test_the_folder_goes_with_the_launcher_and_after_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(records, "root", lambda: tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        with records.own_folder() as mine:
            assert theirs.exists(), "who lives has the lock"
            assert mine.stat().st_mode & 0o77 == 0
            other.kill()
            other.wait()
            with records.own_folder():
                assert mine.exists()
                assert not theirs.exists(), "what a killed one has left goes when the next begins"
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_killed_launcher_goes_though_none_begins(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        assert (theirs / "sm_segment.0").exists()
        other.kill()
    until = time.monotonic() + 60
    while theirs.exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert not theirs.exists()


def test_only_folders_of_launchers_are_removed(tmp_path: Path) -> None:
    name = f"{records.FIRST}.{os.getuid()}"
    kept = [tmp_path / "other", tmp_path / f"{name}.link", tmp_path / f"{records.FIRST}.{os.getuid() + 1}.x"]
    target = tmp_path / "target"
    for folder in (target, kept[0], kept[2]):
        folder.mkdir()
    kept[1].symlink_to(target)
    (tmp_path / f"{name}.file").write_text("")
    (tmp_path / f"{name}.old").mkdir()
    records.clear(tmp_path)
    assert not (tmp_path / f"{name}.old").exists()
    assert all(path.exists() for path in (*kept, target, tmp_path / f"{name}.file"))


def test_one_machine_keeps_to_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mpiexec._core.Pulse, "addresses", lambda: ["127.0.0.1", "10.0.0.7"])
    wanted = {
        "OMPI_MCA_btl_sm_backing_directory": str(tmp_path),
        "OMPI_MCA_btl_tcp_if_include": "lo",
        "OMPI_MCA_btl_tcp_disable_family": "6",
    }
    monkeypatch.delenv("OMPI_MCA_btl_tcp_if_exclude", raising=False)
    assert OPEN_MPI.private(tmp_path) == wanted
    monkeypatch.setenv("OMPI_MCA_btl_tcp_if_exclude", "eth0")  # Open MPI takes one of the two
    assert OPEN_MPI.private(tmp_path) == {"OMPI_MCA_btl_sm_backing_directory": str(tmp_path)}
    monkeypatch.delenv("OMPI_MCA_btl_tcp_if_exclude")
    monkeypatch.setattr(mpiexec._core.Pulse, "addresses", lambda: ["10.0.0.7"])  # a network of its own without lo
    assert OPEN_MPI.private(tmp_path) == {"OMPI_MCA_btl_sm_backing_directory": str(tmp_path)}
    assert mpiexec.Mpich("m", (5,)).private(tmp_path) == {}


def test_named_hosts_and_allocations_are_not_one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert mpiexec.alone(None)
    assert not mpiexec.alone("one:2,two:2")
    for name in mpiexec.SCHEDULED:
        with monkeypatch.context() as patch:
            patch.setenv(name, "17")
            assert not mpiexec.alone(None)


@pytest.mark.parametrize(
    ("tasks", "ranks", "crowded"),
    [
        ("1", 1, False),
        ("1", 2, True),
        ("2(x3),1", 7, False),
        ("2(x3),1", 8, True),
        ("4,2", 6, False),
        ("4,2", 7, True),
    ],
)
def test_an_allocation_of_fewer_tasks_is_oversubscribed(
    tasks: str, ranks: int, crowded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mpiexec._core, "info", lambda: {"cores": 64})
    assert "--oversubscribe" not in OPEN_MPI.options(ranks, None, False)
    monkeypatch.setenv("SLURM_TASKS_PER_NODE", tasks)
    assert "--oversubscribe" not in OPEN_MPI.options(ranks, None, False), "left over from another shell"
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert ("--oversubscribe" in OPEN_MPI.options(ranks, None, False)) == crowded


# --- guards --------------------------------------------------------------------------------------------------


def test_the_rank_and_its_guard_mean_the_same_file() -> None:
    assert guard.BEGUN == launchers.RECORD


def test_a_rank_says_that_its_run_has_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(launchers.RECORD, str(tmp_path / "rank-0"))
    launchers.tell_guard("begun")
    assert (tmp_path / "rank-0").read_text() == "begun\n"
    monkeypatch.setenv(launchers.RECORD, str(tmp_path / "gone" / "rank-0"))
    launchers.tell_guard("begun")
    monkeypatch.delenv(launchers.RECORD)
    launchers.tell_guard("begun")


SAY_BEGUN = f"import os; open(os.environ['{guard.BEGUN}'], 'a').write('begun\\n')"


def guarded(text: str, folder: Path, rank: int = 1) -> subprocess.Popen[str]:
    """A guard as mpiexec starts it."""
    environment = {**os.environ, guard.RECORDS: str(folder), guard.RANKS[0]: str(rank)}
    command = [sys.executable, "-I", "-S", guard.__file__, "tell", sys.executable, "-c", text]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


@pytest.mark.parametrize("begun", [False, True])
def test_a_guard_tells_whether_the_run_had_begun(begun: bool, tmp_path: Path) -> None:
    told = SAY_BEGUN if begun else ""
    for folder in (tmp_path, tmp_path / "on another machine"):
        one = guarded(f"{told}\nraise SystemExit(3)", folder)
        _, err = one.communicate(timeout=60)
        assert one.returncode == 3
        assert re.match(r"loosestep run: rank 1 on \S+ \(process \d+\) ended with exit code 3\n", err)
        assert (f"loosestep run: {guard.UNBEGUN}\n" in err) == (not begun)
    assert (tmp_path / "rank-1").read_text() == ("begun\nended 3\n" if begun else "ended 3\n")


def test_a_guard_ends_what_its_program_has_left(tmp_path: Path) -> None:
    """Also what does not heed SIGTERM."""
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(100)"
    text = f"""
import subprocess, sys
one = subprocess.Popen(["sleep", "100"])
other = subprocess.Popen([sys.executable, "-c", {stubborn!r}], stdout=subprocess.PIPE)
other.stdout.readline()
print(one.pid, other.pid, flush=True)
"""
    job = guarded(text, tmp_path)
    out, err = job.communicate(timeout=60)
    assert (job.returncode, err) == (0, "")
    assert all(has_ended(int(pid), 30) for pid in out.split())


def test_a_killed_guard_is_told_from_one_that_ended(tmp_path: Path) -> None:
    guards = records.Guards(tmp_path, guard.RANKS)
    waiting = (
        f"import os, time; open(os.environ['{guard.BEGUN}'], 'a').write('begun\\n'); print('up'); time.sleep(100)"
    )
    ended, killed = guarded("input()", tmp_path, 0), guarded(waiting, tmp_path, 1)
    until = time.monotonic() + 30
    while len(guards.alive) < 2 and time.monotonic() < until:
        assert guards.look(os.getpid()) == []
    assert set(guards.alive.items()) >= {(ended.pid, "0"), (killed.pid, "1")}
    assert killed.stdout is not None
    assert killed.stdout.readline() == "up\n"
    killed.kill()
    ended.wait()
    killed.wait()
    found = guards.look(os.getpid())
    assert found == [records.Killed("1", killed.pid, begun=True)]
    assert (guards.ended, guards.alive) == (1, {})
    for each in (ended, killed):
        each.communicate()


@pytest.mark.parametrize(
    ("told", "code"),
    [(b"ended 0\n", 0), (b"ended 130\n", 130), (b"begun\nended 130\n", 0), (b"begun\nended 0\n", 0)],
    ids=str,
)
def test_a_rank_that_ctrl_c_ends_before_its_run_leaves_the_others_less_time(
    told: bytes, code: int, tmp_path: Path
) -> None:
    """Its guard says nothing of it, and another, inside MPI's start, waits for it and does not heed Ctrl-C."""
    job = Job(OPEN_MPI, [], {}, Limits())
    job.guards, job.asked = records.Guards(tmp_path, guard.RANKS), [signal.SIGINT]
    job.process = subprocess.Popen([sys.executable, "-c", ""])
    job.process.wait()
    (tmp_path / "rank-1").write_bytes(told)
    job.guards.alive[job.process.pid] = "1"
    job.watch_the_guards()
    assert (job.failed, job.lingering) == (code, EARLY if code else Limits().linger)
    assert (job.until < inf) == bool(code)


def test_who_only_names_the_guard_is_none(tmp_path: Path) -> None:
    """As mpiexec does, and its child before that has become a guard: whose rank cannot be known."""
    command = [sys.executable, "-c", "input()", "-n", "2", sys.executable, "-I", "-S", guard.__file__, "die"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as mpiexec_like:
        until = time.monotonic() + 30
        while guard.__file__.encode() not in records.content(Path(f"/proc/{mpiexec_like.pid}/cmdline")):
            assert time.monotonic() < until
        assert records.guards(os.getpid()) == []
        mpiexec_like.communicate(b"\n")


@pytest.mark.parametrize("option", ["--deadline", "--linger"])
def test_a_limit_that_is_no_number_is_refused(
    option: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "x.py").write_text("")
    assert main(["run", "-n", "2", option, "nan", str(tmp_path / "x.py")]) == 1
    assert f"{option} must be a number of seconds, or inf for no limit, got nan" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("linger", "begun", "lingering"),
    [(60.0, True, 60.0), (60.0, False, EARLY), (2.0, False, 2.0), (inf, False, inf), (inf, True, inf)],
)
def test_who_fails_before_its_run_leaves_the_others_less_time(
    linger: float, begun: bool, lingering: float
) -> None:
    job = Job(OPEN_MPI, [], {}, Limits(linger=linger))
    line = "[1]<stderr>: loosestep run: rank 1 on h (process 7) was killed by signal 9 (Killed)\n"
    job.tail = (line if begun else f"{line}[1]<stderr>: loosestep run: {guard.UNBEGUN}\n").encode()
    before = time.monotonic()
    job.note()
    assert (job.failed, job.lingering) == (128 + signal.SIGKILL, lingering)
    assert job.until == inf if lingering == inf else job.until - before <= lingering + 60
    until = job.until
    job.note()
    assert job.until <= until + 1e-9, "the same line again gives no more time"


def test_the_exit_code_is_that_of_the_rank_that_failed_of_itself() -> None:
    """It may take longer to end than those that have heard of its failure."""
    job = Job(OPEN_MPI, [], {}, Limits())
    line = "loosestep run: rank {} on h (process 7) ended with exit code {}{}\n"
    job.tail = line.format(0, 1, guard.AFTER).encode()
    job.note()
    assert job.failed == 1, "if nobody else says more"
    until = job.until
    job.tail += line.format(1, 3, "").encode() + line.format(2, 5, "").encode()
    job.note()
    assert job.failed == 3
    assert job.until <= until + 1e-9


@pytest.mark.parametrize(("word", "after"), [("begun", ""), ("begun\nheard", guard.AFTER)])
def test_a_guard_says_that_its_rank_had_heard_of_another(word: str, after: str) -> None:
    assert guard.told(1, 7, f"{word}\n".encode()).endswith(f"(process 7) ended with exit code 1{after}\n")


def test_python_is_not_to_be_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("python", "python3.11", "/usr/bin/python3"):
        assert main(["run", "-n", "2", name, "x.py", "--epochs", "3"]) == 2
        wanted = f"{name} is no script: every rank's Python is this one, so leave it out: x.py --epochs 3"
        assert wanted in " ".join(capsys.readouterr().err.split())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's children")
def test_children_of_a_process_that_ends_meanwhile_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert process.pid in records.children(os.getpid())
        scandir, listdir = os.scandir, os.listdir

        def too_late(scan: Any) -> Any:
            def scanned(path: Any) -> Any:
                process.kill()
                process.wait()
                return scan(path)

            return scanned

        monkeypatch.setattr(os, "scandir", too_late(scandir))
        monkeypatch.setattr(os, "listdir", too_late(listdir))
        assert records.children(process.pid) == []
