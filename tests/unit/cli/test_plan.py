"""`loosestep plan parallelism`: what it prints and writes, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loosestep.cli.commands import main

SMALL = ("plan", "parallelism", "--devices", "4", "--batch", "16", "--mlp", "64,64,64,10")


def test_configurations_are_ranked_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, trace = tmp_path / "table.json", tmp_path / "trace.json"
    assert main([*SMALL, "--top", "3", "--json", str(table), "--trace", str(trace)]) == 0
    out = capsys.readouterr().out
    assert "4 devices, a batch of 16 samples" in out
    assert "configurations fit in 40 GB a device" in out
    assert "left out" in out
    assert "tensor degree 4 does not divide 10, a size of 4.weight" in out
    written = json.loads(table.read_text())
    times = [each["step_seconds"] for each in written["configurations"] if each["fits"]]
    assert times == sorted(times)
    assert {"data", "tensor", "pipeline", "microbatches", "schedule", "peak_bytes"} <= set(
        written["configurations"][0]
    )
    assert written["refused"][0]["reason"]
    events = [each for each in json.loads(trace.read_text())["traceEvents"] if each["ph"] == "X"]
    assert max(each["ts"] + each["dur"] for each in events) == pytest.approx(times[0] * 1e6)


def test_json_alone_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--json", "-", "--schedule", "gpipe", "--pipeline", "2"]) == 0
    told = capsys.readouterr()
    assert {each["pipeline"] for each in json.loads(told.out)["configurations"]} == {2}
    assert "samples/s" in told.err


@pytest.mark.parametrize(
    ("more", "code", "told"),
    [
        (("--memory", "1e3"), 1, "nothing fits in 1e-06 GB a device: the smallest, data"),
        (("--batch", "15", "--data", "4"), 1, "data degree 4 does not divide 15, the batch"),
        (("--data", "3"), 1, "no configuration for 4 devices: the degrees to try have no such product"),
        (("--data", "two"), 2, "wanted whole numbers separated by commas, got 'two'"),
        (("--tensor", "0,1"), 2, "wanted numbers from 1 on, got '0,1'"),
        (("--flops", "0"), 2, "--flops"),
        (("--trace", "/no/such/folder/trace.json"), 2, "there is no folder /no/such/folder"),
        (("--mlp", "", "--heads", "3"), 2, "wanted whole numbers"),
    ],
)
def test_errors_say_what_is_wrong(
    more: tuple[str, ...], code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, *more]) == code
    assert told in capsys.readouterr().err


def test_a_transformer_is_the_default_model(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ("--layers", "2", "--width", "8", "--heads", "4", "--sequence", "4", "--classes", "8")
    assert main(["plan", "parallelism", "--devices", "8", "--batch", "8", *sizes]) == 0
    assert "tensor degree 8 does not divide 4, the heads of layer 0.2" in capsys.readouterr().out
    assert main(["plan", "parallelism", "--devices", "8", "--batch", "8", "--heads", "3"]) == 1
    assert "width must be a multiple of heads=3, got 1024" in capsys.readouterr().err


def test_plan_alone_shows_what_it_can_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan"]) == 0
    assert "parallelism" in capsys.readouterr().out
