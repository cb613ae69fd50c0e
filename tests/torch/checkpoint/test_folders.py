"""Whose checkpoint a folder holds: no loop writes over what it neither wrote nor goes on from."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.mpi.jobs import lean  # noqa: E402
from tests.torch.checkpoint.test_saving import learn, parallel  # noqa: E402
from torch import nn  # noqa: E402

import loosestep as ls  # noqa: E402
from loosestep.foundation.errors import CheckpointError  # noqa: E402
from loosestep.runtime.checkpoint import disk  # noqa: E402

HELD = r"holds a checkpoint: call restore\(folder\) first to go on from it, or give another folder$"


def test_a_checkpoint_that_was_refused_is_not_written_over(tmp_path: Path) -> None:
    with parallel(nn.Linear(2, 1)) as optimizer:
        optimizer.save(tmp_path, "good")
    net = nn.Linear(2, 1)
    with parallel(net, strategy=ls.EASGD(2)) as other:
        with pytest.raises(CheckpointError, match="was written with strategy LocalSGD"):
            other.restore(tmp_path)
        learn(net, other)
        with pytest.raises(ValueError, match=HELD):
            other.save(tmp_path)
    assert parallel(nn.Linear(2, 1)).restore(tmp_path) == "good"


def test_two_optimizers_of_a_script_do_not_write_over_each_other(tmp_path: Path) -> None:
    """Both found the folder empty, as those of a GAN at its beginning."""
    nets = nn.Linear(2, 1), nn.Linear(2, 1)
    generator, discriminator = map(parallel, nets)
    for optimizer in (generator, discriminator):
        assert optimizer.restore(tmp_path) is None
    for turn in range(2):
        generator.save(tmp_path, turn)
        with pytest.raises(ValueError, match=HELD):
            discriminator.save(tmp_path, "other")
        learn(nets[0], generator)
    generator.close()
    assert parallel(nn.Linear(2, 1)).restore(tmp_path) == 1


def test_a_job_that_was_locked_out_does_not_write_over_what_came_meanwhile(tmp_path: Path) -> None:
    writing = [sys.executable, "-c", WRITER, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with parallel(nn.Linear(2, 1)) as optimizer:
        with subprocess.Popen(writing, env=lean(os.environ), **pipes) as job:
            assert job.stdout is not None
            assert job.stdout.readline() == "locked\n"
            with pytest.raises(CheckpointError, match="is written by another job"):
                optimizer.save(tmp_path)
            job.communicate("go on")
        with pytest.raises(ValueError, match=HELD):
            optimizer.save(tmp_path)
    assert parallel(nn.Linear(2, 1)).restore(tmp_path) == "of another job"


WRITER = """
import sys
import torch
import loosestep as ls, loosestep.torch
net = torch.nn.Linear(2, 1)
optimizer = ls.torch.parallel(net, torch.optim.Adam(net.parameters(), 0.01), ls.LocalSGD(2), ls.Serial())
optimizer.restore(sys.argv[1])
print("locked", flush=True)
sys.stdin.read()
optimizer.save(sys.argv[1], "of another job")
"""


@pytest.mark.parametrize(
    "refused", ["rank-00000.safetensors", "step-000000000/manifest.json", "run/manifest.json"]
)
def test_a_first_save_that_failed_is_made_again(
    refused: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it left belongs to this run."""
    before = disk.move

    def move(draft: Path, path: Path) -> None:
        if str(path).endswith(refused):
            raise OSError(28, "No space left on device")
        before(draft, path)

    with parallel(nn.Linear(2, 1)) as optimizer:
        monkeypatch.setattr(disk, "move", move)
        with pytest.raises(CheckpointError, match="No space left on device; the previous checkpoint stays"):
            optimizer.save(tmp_path / "run")
        monkeypatch.undo()
        optimizer.save(tmp_path / "run", "second")
    assert parallel(nn.Linear(2, 1)).restore(tmp_path / "run") == "second"


def test_no_save_writes_where_one_that_failed_may_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several at one step, each refused when DIR/manifest.json names it already: each has its own folder."""
    before = disk.move

    def move(draft: Path, path: Path) -> None:
        before(draft, path)
        if path == tmp_path / "manifest.json":
            raise OSError(5, "Input/output error")

    with parallel(nn.Linear(2, 1)) as optimizer:
        monkeypatch.setattr(disk, "move", move)
        for count in range(3):
            with pytest.raises(CheckpointError, match="Input/output error"):
                optimizer.save(tmp_path, count)
        assert len(list(tmp_path.glob("step-*"))) == 3
        monkeypatch.undo()
        optimizer.save(tmp_path)
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-000000000" + 3 * "-again"]


def test_other_groups_are_refused_before_anything_changes(tmp_path: Path) -> None:
    with parallel(nn.Linear(2, 1)) as optimizer:
        optimizer.save(tmp_path)
    net = nn.Linear(2, 1)
    before = net.weight.detach().clone()
    groups = [{"params": [net.weight]}, {"params": [net.bias], "lr": 0.1}]
    with (
        parallel(net, torch.optim.Adam(groups)) as other,
        pytest.raises(CheckpointError, match=r"groups are of \[2\] parameters, and this run's are of \[1, 1\]$"),
    ):
        other.restore(tmp_path)
    assert torch.equal(net.weight, before)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_what_takes_part_in_a_run_is_not_copied(copied: Any) -> None:
    net = nn.Linear(2, 1)
    with parallel(net) as optimizer:
        with pytest.raises(TypeError, match="takes part in a run: state_dict.. and save.. keep it"):
            copied(optimizer)
        copied(net)
        learn(net, optimizer)
