"""How a PyTorch script ends under `loosestep run`: also where it never says `with optimizer:`."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.mpi.jobs import ended, needs_mpi, script

pytestmark = needs_mpi

LOOP = """
import sys, torch, loosestep as ls, loosestep.torch
net = torch.nn.Linear(3, 1)
optimizer = loosestep.torch.parallel(net, torch.optim.SGD(net.parameters(), 0.1), ls.{strategy})
for step in range(4 + 3 * optimizer.rank):
    optimizer.zero_grad()
    net(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    if step == 2 and optimizer.rank == 1:
        {then}
print("rank", optimizer.rank, "made", step + 1, flush=True)
"""


@pytest.mark.parametrize("strategy", ["AllReduceSGD()", pytest.param("EASGD(period=2)", marks=pytest.mark.slow)])
def test_the_end_of_the_script_is_the_end_of_the_data(strategy: str, tmp_path: Path) -> None:
    ranks = 2
    job = ended("-n", ranks, script(tmp_path, LOOP.format(strategy=strategy, then="pass")), seconds=120)
    assert job.process.returncode == 0, job.err
    assert sorted(job.out.splitlines()) == [f"rank {rank} made {4 + 3 * rank}" for rank in range(ranks)]
    assert job.err.startswith(strategy)
    assert "\nworkers " in job.err
    assert f"{ranks} on MPI(), CPU\n" in job.err
    assert "learning rate 0.1\n" in job.err


def test_one_worker_alone_ends_in_order(tmp_path: Path) -> None:
    """Its session has a thread, which must not ask MPI for messages after MPI's end."""
    text = LOOP.format(strategy="LocalSGD(2)", then="pass")
    job = ended("-n", 1, script(tmp_path, text), seconds=120)
    assert job.process.returncode == 0, job.err
    assert "MPI_FINALIZE" not in job.err


def test_an_error_is_told_to_the_others(tmp_path: Path) -> None:
    text = LOOP.format(strategy="AllReduceSGD()", then="raise ArithmeticError('boo')")
    job = ended("-n", 2, "--tag", script(tmp_path, text), seconds=120)
    assert job.process.returncode == 1, job.err
    for rank in range(2):
        assert any(
            "worker 1 failed in round" in line or "ArithmeticError: boo" in line for line in said(job.err, rank)
        )
    assert "made" not in job.out


@pytest.mark.slow  # with two optimizers, below, it is told as well
def test_an_exit_code_is_told_to_the_others_and_is_the_jobs(tmp_path: Path) -> None:
    text = LOOP.format(strategy="LocalSGD(2)", then="sys.exit(3)")
    job = ended("-n", 2, "--tag", script(tmp_path, text), seconds=120)
    assert job.process.returncode == 3, job.err
    assert any("worker 1 failed in round 2" in line and "SystemExit: 3" in line for line in said(job.err, 0))
    assert any("rank 1" in line and "ended with exit code 3" in line for line in said(job.err, 1)), job.err


TWO = """
import sys, torch, loosestep as ls, loosestep.torch
nets = [torch.nn.Linear(3, 1) for _ in range(2)]
optimizers = [torch.optim.SGD(net.parameters(), 0.1) for net in nets]
one, two = (loosestep.torch.parallel(net, each, ls.AllReduceSGD()) for net, each in zip(nets, optimizers))
for step in range(5):
    for net, optimizer in zip(nets, (one, two)):
        if step == 2 and optimizer is one and optimizer.rank == 1:
            sys.exit(3)
        optimizer.zero_grad()
        net(torch.ones(2, 3)).sum().backward()
        optimizer.step()
"""


def test_an_exit_code_is_told_to_those_that_wait_in_the_first_of_two_optimizers(tmp_path: Path) -> None:
    job = ended("-n", 2, "--tag", script(tmp_path, TWO), seconds=120)
    assert job.process.returncode == 3, job.err
    words = "PeerFailed: worker 1 failed in round 2, at step 2: SystemExit: 3"
    assert any(words in line for line in said(job.err, 0)), job.err
    assert any("rank 1" in line and "ended with exit code 3" in line for line in said(job.err, 1)), job.err
    assert "worker 0 ends at" not in job.err, "by its own traceback"


def test_an_exit_with_0_is_the_end_of_the_data(tmp_path: Path) -> None:
    text = LOOP.format(strategy="LocalSGD(2)", then="sys.exit(0)")
    text = text.replace("for step", "with optimizer:\n  for step")
    head, body = text.split("  for step")
    body = body.replace("\n    ", "\n      ")
    job = ended("-n", 2, script(tmp_path, f"{head}  for step{body}"), seconds=120)
    assert job.process.returncode == 0, job.err
    assert job.out.splitlines() == ["rank 0 made 4"]


ORDER = """
import shutil, torch, loosestep as ls, loosestep.torch
def parallel(names):
    net = torch.nn.ModuleDict({{name: torch.nn.Linear(3, 3) for name in names}})
    return loosestep.torch.parallel(net, torch.optim.SGD(net.parameters(), 0.1), ls.AllReduceSGD())
with parallel("abcd") as optimizer:
    optimizer.save("{folder}", "the end")
    if optimizer.rank == 0:
        shutil.copytree("{folder}", "{folder} as it was")
optimizer = parallel("acbd" if ls.MPI().rank == 1 else "abcd")
print("resumed at", optimizer.restore("{folder}"), flush=True)
"""


def test_another_order_of_parameters_is_refused_on_every_rank(tmp_path: Path) -> None:
    """Names and shapes are the same; what was saved before is what it was."""
    program = script(tmp_path, ORDER.format(folder=tmp_path / "checkpoint"))
    job = ended("-n", 2, "--tag", program, seconds=120)
    assert job.process.returncode == 1, job.err
    difference = (
        "worker 1 has parameter 2 'c.weight': (3, 3) torch.float32, (3, 1), worker 0 has parameter 2 'b.weight'"
    )
    for rank in range(2):
        assert any(difference in line for line in said(job.err, rank)), job.err
    assert "resumed" not in job.out
    now, before = (contents(tmp_path / name) for name in ("checkpoint", "checkpoint as it was"))
    assert now == before
    assert before


def contents(folder: Path) -> dict[Path, bytes]:
    """Of all files below: what was not touched resumes, as other tests show."""
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def said(err: str, rank: int) -> list[str]:
    return [line for line in err.splitlines() if line.startswith(f"[{rank}]")]
