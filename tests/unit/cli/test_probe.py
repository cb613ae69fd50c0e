"""The command `loosestep probe`: what it writes, prints and refuses."""

from __future__ import annotations

import time
from pathlib import Path

import click
import pytest

import loosestep as ls
from loosestep.cli.commands import main
from loosestep.cli.probe import Step, probe

CLUSTER = "Simulated(2, step_time=0.01, latency=1e-3, bandwidth=1e8)"


def test_a_probe_is_written_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "probe.json"
    assert main(["probe", "--on", CLUSTER, "--seconds", "0.1", "--json", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "2 workers on 2 hosts" in shown
    assert "a message takes 1 ms and 800 Mbit/s" in shown
    assert ls.Simulated.like(file).latency == pytest.approx(1e-3, rel=0.01)


def test_a_run_says_how_far_it_was_from_its_prediction(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "probe.json"
    ls.probe(ls.Simulated(2, step_time=0.01), seconds=0.1).write(file)
    train = ["train", "--strategy", "LocalSGD(4)", "--epochs", "1", "--workers", "2", "--probe", str(file)]
    assert main(train) == 0
    shown = capsys.readouterr().out
    assert "predicted: LocalSGD(period=4):" in shown
    assert "% off" in shown


def test_a_step_is_seconds_or_a_function(tmp_path: Path) -> None:
    script = tmp_path / "steps.py"
    script.write_text("def step():\n    return 7\n\nnumber = 3\n")
    step = Step()
    began = time.monotonic()
    step.convert("0.001", None, None)()
    assert time.monotonic() > began
    assert step.convert(f"{script}:step", None, None)() == 7
    for text, sentence in (
        ("soon", "'soon' is neither seconds nor FILE.py:FUNCTION"),
        ("-1", "a step takes more than 0 seconds, got -1"),
        (f"{script}:number", "has no function number"),
        (f"{tmp_path}/none.py:step", "there is no file"),
    ):
        with pytest.raises(click.BadParameter, match=sentence):
            step.convert(text, None, None)


def test_a_folder_that_is_not_there_is_refused_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert probe.name == "probe"
    assert main(["probe", "--on", CLUSTER, "--json", "/nowhere/probe.json"]) == 2
    assert "/nowhere" in capsys.readouterr().err
