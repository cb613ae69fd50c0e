"""The lock of a checkpoint's folder between processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.runtime.checkpoint.runs import go, same
from tests.unit.runtime.checkpoint.runs import quick_disk as quick_disk

from loosestep.foundation.errors import CheckpointError
from loosestep.runtime.checkpoint import locking

HOLDER = """
import sys
from pathlib import Path
from loosestep.runtime.checkpoint import locking
locking.take(Path(sys.argv[1]), alone=True)
print("held", flush=True)
sys.stdin.read()
"""


def test_another_job_is_named_until_it_ends(tmp_path: Path) -> None:
    go(tmp_path, steps=8)
    holding = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holding.stdout is not None
    assert holding.stdout.readline() == "held\n"
    try:
        with pytest.raises(
            CheckpointError,
            match=rf"^{tmp_path} is written by another job, process {holding.pid} on \S+ since [\d: -]+: wait for",
        ):
            go(tmp_path, resume=True)
    finally:
        holding.kill()
        holding.communicate()
    assert same(go(tmp_path, resume=True), go(tmp_path / "whole"))


def test_a_forked_copy_does_not_hold_the_lock(tmp_path: Path) -> None:
    key = locking.take(tmp_path, alone=True)
    code = HOLDER.replace("sys.stdin.read()", "")
    try:
        child = os.fork()
        if not child:
            locking.release(key)  # which is not its own
            os._exit(0)
        os.waitpid(child, 0)
        held = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert f"process {os.getpid()} on" in held.stderr
    finally:
        locking.release(key)
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0
