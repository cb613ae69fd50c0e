"""Jobs that are joined by ZeroMQ: any launcher gives the same bits, and nobody hangs or is left behind."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.mpi.jobs import MARK, Running, ended, lean, mpi_is_here, started

pytest.importorskip("zmq")

import loosestep as ls
from loosestep.foundation.errors import PeerFailed, WorkerFailed

HERE = Path(__file__).parents[1] / "mpi"
JOB = HERE / "same_bits.py"
KEPT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("OMPI_", "OMP_", "PMI", "SLURM_", "LOOSESTEP_", "TORCHELASTIC"))
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def outputs(
    commands: list[list[str]], environments: list[dict[str, str]], seconds: float = 120, typed: str | None = None
) -> list[Any]:
    """(exit code, output, errors) of processes that run at once, each of which is typed the same."""
    processes = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE if typed else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=lean({**KEPT, **environment}),
        )
        for command, environment in zip(commands, environments, strict=True)
    ]
    try:
        found = []
        for process in processes:
            out, err = process.communicate(typed, timeout=seconds)
            found.append((process.returncode, out, err))
        return found
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def together(environments: list[dict[str, str]], script: Path = JOB, seconds: float = 120) -> list[Any]:
    return outputs([[sys.executable, str(script)]] * len(environments), environments, seconds)


def slurm(rank: int) -> dict[str, str]:
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_ID": "3", "SLURM_NODELIST": "localhost"}
    return {**job, "SLURM_PROCID": str(rank), "SLURM_NTASKS": "2", "SLURM_LOCALID": str(rank)}


def run(job_: Path, *options: str) -> list[Any]:
    job = ended(*options, "-n", 2, job_, seconds=120)
    return [(job.process.returncode, job.out, job.err)]


def torchrun(job: Path) -> list[Any]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    return outputs([[*command, f"--master-port={free_port()}", str(job)]], [{}])


CELLS = f"""
exec(open({str(JOB)!r}).read().split("if __name__")[0])

for one in ls.launch(digest, 2): print("bits", one)

"""


def notebook() -> list[Any]:
    """What is typed: functions are in no file that other processes import."""
    return outputs([[sys.executable, "-i", "-q"]], [{}], typed=CELLS)


def mpiexec(job: Path) -> list[Any]:
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    beside = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or "mpiexec"
    return outputs([[beside, "-n", "2", sys.executable, str(job)]], [root])


def by_all_launchers(job: Path, *, torch: bool) -> dict[str, list[Any]]:
    """What a job's processes say, by launcher; those of torch where it is there."""
    one = [sys.executable, str(job)]
    found = {
        "loosestep run --wire zmq": run(job, "--wire", "zmq"),
        "srun": together([slurm(rank) for rank in range(2)], job),
        "spawned processes": outputs([[*one, "spawn", str(free_port())]], [{}]),
        "loosestep.launch": outputs([[*one, "launch"]], [{}]),
    }
    if mpi_is_here():
        found |= {"loosestep run": run(job), "mpiexec": mpiexec(job)}
    if torch:
        found["torchrun"] = torchrun(job)
    return found


def check_same_bits(found: dict[str, list[Any]]) -> None:
    """Both processes of each launcher have come to one thing."""
    bits = {}
    for launcher, processes in found.items():
        for code, _, err in processes:
            assert code == 0, f"{launcher}: {err}"
        said = re.findall(r"bits (\w+)", "".join(out for _, out, _ in processes))
        assert len(said) == 2, (launcher, found)
        bits[launcher] = set(said)
    assert len(set.union(*bits.values())) == 1, bits


def test_every_launcher_gives_the_same_bits() -> None:
    """`on=` is left out in all of them."""
    found = by_all_launchers(JOB, torch=importlib.util.find_spec("torch") is not None)
    if importlib.util.find_spec("cloudpickle"):
        found["a notebook's cell"] = notebook()
    check_same_bits(found)


@pytest.mark.parametrize("all_", [False, pytest.param(True, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_a_loop_of_torch_has_the_same_bits_by_every_launcher(all_: bool) -> None:
    pytest.importorskip("torch")
    job = HERE.parent / "torch" / "processes" / "same_bits.py"
    if all_:
        found = by_all_launchers(job, torch=True)
    else:
        found = {
            "torch.multiprocessing.spawn": outputs([[sys.executable, str(job), "spawn", str(free_port())]], [{}]),
            "loosestep run": run(job, *([] if mpi_is_here() else ["--wire", "zmq"])),
        }
    check_same_bits(found)


@pytest.mark.parametrize(
    ("ranks", "how"), [(2, "short"), *(pytest.param(n, "", marks=pytest.mark.slow) for n in (2, 3, 4))]
)
def test_the_contract_of_processes_over_zeromq(ranks: int, how: str, tmp_path: Path) -> None:
    """Of which the other wire shows all: in short, requests of one size in each layout, and what is resumed."""
    environment = {"PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])}
    arguments = ["--wire", "zmq", "-n", ranks, HERE / "contract.py", tmp_path, how]
    job = ended(*arguments, seconds=240, environment=environment)
    assert job.process.returncode == 0, job.err
    assert job.out.count("all agrees") == ranks


ROWS = {
    "killed": (137, (0, 2), "worker 1 failed: without a word (its connection is closed)"),
    "raises": (1, (0, 1, 2), "worker 1 failed in round 5, at Gradient(): ArithmeticError: boo"),
    "skips": (1, (0, 1, 2), "asked for all_reduce(m"),
    "stopped": (1, (0, 2), "worker 1, which shows no sign of life (dead, stopped, or cut off)"),
    "other strategy": (1, (0, 1, 2), "worker 1 has strategy Skipping(period=5), worker 0 has strategy Skipping("),
}
SHOWN = {("killed", ""), ("raises", "1,2")}
FAILURES = [
    pytest.param(how, hosts, marks=() if (how, hosts) in SHOWN else pytest.mark.slow)
    for how in ROWS
    for hosts in ("", "1,2")
]


@pytest.mark.parametrize(("how", "hosts"), FAILURES)
def test_a_rank_that_misbehaves_is_named_by_all(how: str, hosts: str, tmp_path: Path) -> None:
    code, ranks, words = ROWS[how]
    more = [hosts] if hosts else []
    options = ("--wire", "zmq", "-n", 3, "--tag", "--deadline", 40)
    job = ended(*options, HERE / "misbehaving.py", how, tmp_path / "checkpoint", 60, *more)
    assert job.process.returncode == code, job.err
    for rank in ranks:
        said = [line for line in job.err.splitlines() if line.startswith(f"[{rank}] ")]
        assert any(words in line for line in said), f"rank {rank}: {job.err}"


STEPS = """
import sys, time
import numpy as np
import loosestep as ls
count = 0
def gradient(x, batch):
    global count
    count += 1
    if count == 3: print("going", flush=True)
    time.sleep(0.02)
    return x - batch
ls.run(ls.LocalSGD(5), gradient, np.zeros(8), lambda rank, size: iter([1.0] * 5000), checkpoint=sys.argv[1])
"""


def test_ctrl_c_reaches_every_rank_once_and_is_saved(tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text(STEPS)
    with started("--wire", "zmq", "-n", 2, file, tmp_path / "checkpoint") as job:
        job.wait_for("going", 2)
        job.process.send_signal(signal.SIGINT)
        assert job.end(60) == 130, job.err
        assert job.left() == []
    assert (tmp_path / "checkpoint" / "manifest.json").exists()
    assert job.err.count("Traceback") == 0, job.err


def test_a_killed_launcher_leaves_nobody(tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text(STEPS)
    with started("--wire", "zmq", "-n", 2, file, tmp_path / "checkpoint") as job:
        job.wait_for("going", 2)
        job.process.kill()
        assert job.left(10) == []


def test_hosts_are_not_for_this_wire(tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text("")
    job = ended("--wire", "zmq", "--hosts", "a:1", "-n", 1, file)
    assert job.process.returncode == 2
    assert "--hosts goes with --wire mpi" in job.err


COMING = """
import numpy as np, sys
import loosestep as ls
on = ls.ZMQ(deadline=2.0)
ls.run(ls.LocalSGD(5), lambda x, batch: x, np.zeros(8), lambda rank, size: iter([1.0] * 5), on=on)
print("trained")
"""


def explicit(rank: int, size: int, port: int, **more: str) -> dict[str, str]:
    told = {"LOOSESTEP_RANK": str(rank), "LOOSESTEP_RANKS": str(size), "LOOSESTEP_ADDRESS": f"127.0.0.1:{port}"}
    return {**told, **more}


def test_a_rank_that_never_comes_is_named(tmp_path: Path) -> None:
    file, port = tmp_path / "script.py", free_port()
    file.write_text(COMING)
    for code, out, err in together([explicit(0, 3, port), explicit(2, 3, port)], file):
        assert (code, out) == (1, "")
        assert f"worker 1, which has not come to tcp://127.0.0.1:{port}" in err


@pytest.mark.parametrize("key", ["another", None])
def test_a_stranger_is_refused_and_changes_nothing(key: str | None, tmp_path: Path) -> None:
    """It says that it is rank 1; the true one comes later."""
    file, port = tmp_path / "script.py", free_port()
    file.write_text(COMING.replace("2.0", "30.0"))
    stranger = file.with_name("stranger.py")
    stranger.write_text(COMING)
    mine, theirs = {"LOOSESTEP_KEY": "ours"}, {} if key is None else {"LOOSESTEP_KEY": key}
    one = [sys.executable, str(file)]
    late = ["sh", "-c", f"sleep 3; exec {sys.executable} {file}"]
    found = outputs(
        [one, [sys.executable, str(stranger)], late],
        [explicit(0, 2, port, **mine), explicit(1, 2, port, **theirs), explicit(1, 2, port, **mine)],
    )
    assert [(code, out) for code, out, _ in found] == [(0, "trained\n"), (1, ""), (0, "trained\n")], found
    assert "worker 0, which has not come to" in found[1][2]


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text(COMING)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ((code, _, err),) = together([explicit(0, 2, port)], file)
    assert code == 1
    assert f"rank 0 cannot listen at tcp://127.0.0.1:{port} (Address already in use): give the job another" in err


# --- loosestep.launch --------------------------------------------------------------------------------------


def job(how: str, number: int) -> int:
    import numpy as np

    rank = ls.ZMQ().rank

    def gradient(x: Any, batch: Any) -> Any:
        if rank == 1 and how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if rank == 1 and how == "raises":
            raise KeyError("boo")
        return x - batch

    if rank == 1 and how == "early":
        raise ZeroDivisionError("early")
    ls.run(ls.LocalSGD(2), gradient, np.zeros(8), lambda rank, size: iter([1.0] * 10))
    return number + rank


def test_launch_returns_results_by_rank() -> None:
    assert ls.launch(job, 2, "none", 5) == [5, 6]


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [
        ("raises", WorkerFailed, r"worker 1 failed in round 1, at Gradient\(\): KeyError: 'boo'"),
        ("early", ZeroDivisionError, "early"),
        ("killed", PeerFailed, r"worker 1 failed: killed by signal 9 \(Killed\)"),
    ],
)
def test_launch_raises_the_first_failure_with_its_rank(how: str, kind: type[Exception], words: str) -> None:
    began = time.monotonic()
    with pytest.raises(kind, match=words) as caught:
        ls.launch(job, 2, how, 5)
    assert time.monotonic() - began < 40
    if how != "killed":
        assert caught.value.__notes__[0].startswith("in rank 1 of loosestep.launch:\nTraceback")


INTERRUPTED = """
import signal, sys, time
import numpy as np
import loosestep as ls
from loosestep.cli.launch import functions

functions.LINGER = 3.0

def trains():
    count = 0
    def gradient(x, batch):
        nonlocal count
        count += 1
        if count == 3: print("going", flush=True)
        time.sleep(0.02)
        return x - batch
    ls.run(ls.LocalSGD(5), gradient, np.zeros(8), lambda rank, size: iter([1.0] * 5000))

def stubborn():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("going", flush=True)
    time.sleep(100)

if __name__ == "__main__":
    ls.launch(globals()[sys.argv[1]], 2)
"""


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("trains", r"KeyboardInterrupt: interrupted after step \d+\nin rank \d of loosestep.launch"),
        ("stubborn", "KeyboardInterrupt: ended by force 3 s after Ctrl-C: rank 0, 1"),
    ],
)
def test_ctrl_c_ends_a_launch_and_all_of_its_ranks(how: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text(INTERRUPTED)
    mark = {MARK: f"launch-{os.getpid()}-{how}"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process: Any = subprocess.Popen([sys.executable, str(file), how], env=KEPT | mark, **pipes)  # type: ignore[call-overload]
    job = Running(process, mark[MARK])
    job.wait_for("going", 2)
    process.send_signal(signal.SIGINT)
    assert job.end(40) == -signal.SIGINT, job.err
    assert re.search(words, job.err), job.err
    assert job.left() == []
