"""Ctrl-C, SIGTERM and early stopping in a real job: all stop after one step, save there, and go on from there."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.mpi.jobs import ended, needs_mpi, started  # noqa: E402

EXAMPLE = Path(__file__).parents[3] / "examples" / "stop_and_resume.py"

pytestmark = needs_mpi


@pytest.mark.parametrize(
    ("number", "strategy"),
    [(signal.SIGINT, "LocalSGD(8)"), pytest.param(signal.SIGTERM, "EASGD(8)", marks=pytest.mark.slow)],
    ids=["int", "term"],
)
def test_a_signal_ends_the_loop_after_a_step_that_is_saved(number: int, strategy: str, tmp_path: Path) -> None:
    arguments = ("-n", 2, EXAMPLE, "--folder", tmp_path, "--strategy", strategy, "--epochs", 2)
    with started(*arguments, "--sleep", 0.02) as job:
        job.wait_for("epoch 0")
        job.process.send_signal(number)
        job.end(60)
        assert "stopped in epoch 1, saved\n" in job.out, job.err
        assert "Traceback" not in job.err
        assert job.left() == []
    if number == signal.SIGTERM:  # once is enough: a job takes seconds to start
        return
    again = ended(*arguments, seconds=180)
    assert again.process.returncode == 0, again.err
    assert [line.split(":")[0] for line in again.out.splitlines()] == ["epoch 1"]
    assert (tmp_path / "model.pt").exists()
