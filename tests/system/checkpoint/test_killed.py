"""A run that is killed at any touch of the disk, or finds it full, leaves a checkpoint to go on from."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.unit.runtime.checkpoint.runs import STRATEGIES, go, same

import loosestep as ls
from loosestep.foundation.errors import CheckpointError

KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
folder, name, fatal = Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
from loosestep.runtime.checkpoint import disk
from tests.unit.runtime.checkpoint.runs import STRATEGIES, go
calls = 0

def dying(function):
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == fatal:
            os._exit(41)
        return function(*arguments, **options)
    return call

os.fsync = dying(lambda file: None)
Path.replace = dying(Path.replace)
Path.mkdir = dying(Path.mkdir)
Path.open = dying(Path.open)
disk.shutil.rmtree = dying(disk.shutil.rmtree)
go(folder, next(s for s in STRATEGIES if repr(s) == name))
print(calls)
"""


def killed(folder: Path, strategy: ls.Strategy, fatal: int) -> int:
    """Run in a process of its own that exits at its `fatal`-th touch of the disk; its exit code."""
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", KILLED, str(root), str(folder), repr(strategy), str(fatal)]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode


@pytest.mark.parametrize(
    ("strategy", "fatal"),
    [
        *((STRATEGIES[0], fatal) for fatal in (1, 6, 16, 19, 21, 26, 29, 33)),
        *((STRATEGIES[1], at) for at in (17, 20, 31)),
    ],
)
def test_killed_at_any_write_it_resumes(strategy: ls.Strategy, fatal: int, tmp_path: Path) -> None:
    assert killed(tmp_path / "run", strategy, fatal) == 41
    resumed = go(tmp_path / "run", strategy, resume=True)
    assert same(resumed, go(tmp_path / "whole", strategy))


# --- a full disk ------------------------------------------------------------------------------------------


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, where the system lets us mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system may be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_really_full(tiny_disk: Path) -> None:
    with pytest.raises(CheckpointError, match=r"No space left on device; the previous checkpoint stays$"):
        go(tiny_disk / "run", x0=np.ones((512, 8)))
