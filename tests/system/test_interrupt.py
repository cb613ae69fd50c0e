"""Ctrl-C in a process of its own: the step is finished and saved, and what is saved resumes to the same bits."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import sys, time
import numpy as np
import loosestep as ls

folder, strategy, on, resume, hang = sys.argv[1:]
steps, told = 60, False

def batches(rank, size):
    rng = np.random.default_rng(rank)
    return (rng.standard_normal((2, 16)) for _ in range(steps - 7 * rank))

def gradient(x, batch):
    global told
    if not told:
        told = True
        print("going", flush=True)
    time.sleep(float(hang) if hang != "0" else 0.02 if resume == "no" else 0)
    return x - batch.mean(axis=0)

words = vars(ls)
try:
    result = ls.run(eval(strategy, dict(words)), gradient, np.ones(16), batches, optimizer=ls.Nesterov(0.05),
                    on=eval(on, dict(words)), checkpoint=folder, checkpoint_every=13, resume=resume != "no")
except ls.Interrupted as error:
    print("interrupted", error.result.steps, error, flush=True)
    sys.exit(130)
print("done", result.steps, result.params.tobytes().hex(), [w.params.tobytes().hex() for w in result.workers])
"""

LOCKSTEP = ["LocalSGD(period=9)", "CoCoDSGD(period=5)", "SyncEASGD(period=4, order='published')"]


def begin(folder: Path, strategy: str, on: str, resume: str = "no", hang: str = "0") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(folder), strategy, on, resume, hang]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str], seconds: float = 60) -> tuple[str, str]:
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        pytest.fail(f"still running after {seconds} s: {out} {err}")
    return out, err


@pytest.mark.parametrize("on", ["Threads(3)", "Simulated(3)"])
@pytest.mark.parametrize(("strategy", "after"), list(zip(LOCKSTEP, [0.3, 0.4, 0.45], strict=True)))
def test_ctrl_c_finishes_the_step_and_what_it_saved_resumes(
    strategy: str, after: float, on: str, tmp_path: Path
) -> None:
    process = begin(tmp_path / "run", strategy, on)
    assert process.stdout is not None
    assert process.stdout.readline() == "going\n"
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    out, err = finish(process)
    assert time.monotonic() - sent < 10, "a second or so, on a machine that is not busy"
    assert process.returncode == 130, err
    word, steps, sentence = out.split(maxsplit=2)
    assert word == "interrupted"
    assert sentence.strip() == f"interrupted after step {steps}"
    assert 0 < int(steps) < 60
    assert (tmp_path / "run" / "manifest.json").exists()

    resumed, _ = finish(begin(tmp_path / "run", strategy, on, resume="yes"))
    whole, _ = finish(begin(tmp_path / "whole", strategy, on, resume="fresh"))
    assert resumed.startswith("going\ndone 60 ")
    assert resumed == whole


@pytest.mark.parametrize("on", ["Threads(3)", "Simulated(3)"])
@pytest.mark.parametrize("strategy", ["EASGD(period=5)"])
def test_ctrl_c_of_a_method_without_lockstep_resumes(strategy: str, on: str, tmp_path: Path) -> None:
    process = begin(tmp_path / "run", strategy, on)
    assert process.stdout is not None
    assert process.stdout.readline() == "going\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = finish(process)
    assert out.startswith("interrupted "), err
    resumed, err = finish(begin(tmp_path / "run", strategy, on, resume="yes"))
    assert "done 60 " in resumed, err


@pytest.mark.parametrize("on", ["Threads(3)", "Simulated(3)"])
def test_a_second_ctrl_c_ends_at_once(on: str, tmp_path: Path) -> None:
    """Every gradient takes a minute."""
    process = begin(tmp_path / "run", "LocalSGD()", on, hang="60")
    assert process.stdout is not None
    assert process.stdout.readline() == "going\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None, "the first one lets the step go on"
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    _, err = finish(process, 30)
    assert time.monotonic() - sent < 10
    assert "KeyboardInterrupt" in err


@pytest.mark.parametrize("on", ["Threads(3)", "Simulated(3)"])
def test_sigterm_saves_and_ends_with_its_code(on: str, tmp_path: Path) -> None:
    text = PROGRAM.replace("except ls.Interrupted as error:", "except ZeroDivisionError:")
    command = [sys.executable, "-c", text, str(tmp_path / "run"), "LocalSGD(period=9)", on, "no", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "going\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    out, err = finish(process)
    assert (process.returncode, out) == (143, ""), err
    assert re.fullmatch(rf"loosestep: interrupted after step \d+ by SIGTERM; saved to {tmp_path / 'run'}\n", err)
    resumed, _ = finish(begin(tmp_path / "run", "LocalSGD(period=9)", on, resume="yes"))
    whole, _ = finish(begin(tmp_path / "whole", "LocalSGD(period=9)", on, resume="fresh"))
    assert resumed == whole


@pytest.mark.parametrize("on", ["Threads(3)", "Simulated(3)"])
def test_a_second_sigterm_ends_at_once(on: str, tmp_path: Path) -> None:
    """Every gradient takes a minute."""
    process = begin(tmp_path / "run", "LocalSGD()", on, hang="60")
    assert process.stdout is not None
    assert process.stdout.readline() == "going\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert process.poll() is None, "the first one lets the step go on"
    process.send_signal(signal.SIGTERM)
    finish(process, 30)
    assert process.returncode == -signal.SIGTERM


def test_sigterm_ends_the_training_of_the_command_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loosestep", "train", "--strategy", "LocalSGD(4)", "--workers", "2"]
    command += ["--epochs", "10000", "--checkpoint", str(tmp_path / "run"), "--checkpoint-every", "20"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    manifest, until = tmp_path / "run" / "manifest.json", time.monotonic() + 60
    while not manifest.exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, err = finish(process)
    assert process.returncode == 143, err
    assert "Interrupted: the step was finished" in err
    assert "LocalSGD(period=4)" in out
