"""`python -m bench ops --device cuda` without a GPU: its arithmetic on the stub, and what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from bench.cuda import ops as benched
from bench.cuda.events import sets_of
from bench.harness import Options
from tests.cuda.emulated.emulation import ROOT
from tests.cuda.emulated.stub import Gpu

from loosestep import _core
from loosestep.cuda import device as gpus
from loosestep.foundation.errors import CudaError


@pytest.fixture(autouse=True)
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with a GPU torch would take the stub's addresses for addresses there."""
    monkeypatch.setattr(benched, "has_torch", lambda: False)


def test_bytes_are_those_that_a_step_must_move() -> None:
    wanted = {"copy": 8, "subtract": 12, "scale": 8, "elastic": 16, "nesterov": 20, "adam": 28, "parle": 32}
    assert {op: benched.bytes_of(op) for op in wanted} == wanted


def test_buffers_take_turns_beyond_l2(gpu: Gpu) -> None:
    """The stub's L2 has 16 KiB."""
    assert [sets_of(size) for size in (1 << 10, 1 << 16, 1 << 20)] == [64, 1, 1]


@pytest.mark.parametrize("op", _core.rules.names())
def test_contestants_agree(gpu: Gpu, op: str) -> None:
    benched.check(op)
    assert len(gpu.launches) == 1


def test_a_rate_is_bytes_by_the_gpus_clock(gpu: Gpu) -> None:
    """4 ms for one call: 4096 elements of 16 bytes; the copy moves 8."""
    found = benched.rows(Options(smoke=True, only="elastic, small"))
    rows = {row.library: row for row in found if row.case == "elastic, small"}
    assert {"loosestep", "cupy", "cupy fused", "copy"} <= set(rows)
    assert rows["loosestep"].value == pytest.approx(16 * 4096 / 1e9 / 4e-3)
    assert rows["copy"].value == pytest.approx(8 * 4096 / 1e9 / 4e-3)
    assert rows["loosestep"].limit_share == pytest.approx(2)


def why_not() -> str:
    """Why there is no GPU here; nothing where there is one."""
    try:
        gpus.first()
    except CudaError as failed:
        return str(failed)
    return ""


@pytest.mark.skipif(not why_not(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    command = [sys.executable, "-m", "bench", "ops", "--device", "cuda"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"bench: {why_not()}\n")


# --- one command for all of it --------------------------------------------------------------------------------


def everything(folder: Path, python: str) -> subprocess.CompletedProcess[str]:
    given = {**os.environ, "RESULTS": str(folder), "PYTHON": python}
    command = [str(ROOT / "tests/cuda/on_a_card.sh"), "--smoke"]
    return subprocess.run(command, env=given, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not why_not(), reason="there is a GPU")
def test_everything_says_so_too_and_leaves_no_page(tmp_path: Path) -> None:
    done = everything(tmp_path, sys.executable)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"on_a_card: {why_not()}\n")
    assert not list(tmp_path.iterdir())


def test_everything_goes_on_after_a_failure_and_says_it(tmp_path: Path) -> None:
    """On a Python whose tests fail, and whose benchmarks say how they were called."""
    python = tmp_path / "python"
    cases = '*on_a_card) echo A GPU;; *"-m pytest"*) exit 3;; *) echo "$*";;'
    python.write_text(f'#!/bin/sh\ncase "$*" in {cases} esac\n')
    python.chmod(0o700)
    done, page = everything(tmp_path, str(python)), (tmp_path / "gpu.md").read_text()
    assert done.returncode == 1
    assert "A GPU. Written by" in page
    assert "## tests: FAILED, status 3" in page
    for name in ("ops", "formats", "replicas", "hogwild", "torch_step"):
        assert f"## bench {name}: passed" in page
        assert f"\n-m bench {name} --device cuda --json {tmp_path}/gpu_{name}.json --smoke\n" in page
