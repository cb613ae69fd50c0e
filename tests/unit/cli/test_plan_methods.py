"""`loosestep plan methods`: what it prints and writes, and how it ends."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.unit.transports.simulated.test_probe import FOUND

import loosestep as ls
from loosestep.cli.commands import main

CLUSTER = ls.Simulated(4, step_time=0.1, latency=0.01, bandwidth=1.25e7)
COMMAND = ("plan", "methods", "--parameters", "250000", "--on", repr(CLUSTER))
FEW = ("--strategies", "LocalSGD, AllReduceSGD, DBS")


def test_a_table_is_printed_and_all_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plan.json"
    assert main([*COMMAND, *FEW, "--json", str(file)]) == 0
    out = capsys.readouterr().out
    assert "LocalSGD(period=16)" in out
    assert "An average of 250,000 parameters takes 0.14 s between 4 workers, a local step 0.1 s" in out
    assert "left out DBS()" in out
    assert "how many steps a loss takes is not known" in out
    written = json.loads(file.read_text())
    assert [each["strategy"] for each in written["ranked"]] == ["LocalSGD(period=16)", "AllReduceSGD()"]
    assert len(written["tried"]) == 10
    assert written["average_seconds"] == pytest.approx(0.14)


def test_all_strategies_are_predicted_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMAND, "--json", "-", "--periods", "8"]) == 0
    names = {row["strategy"] for row in json.loads(capsys.readouterr().out)["ranked"]}
    assert {"AllReduceSGD()", "LocalSGD(period=8)", "StreamingDiLoCo(period=8, codec=E3M0())"} <= names


def test_links_by_name_and_hosts_make_the_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = ("--hosts", "2,2", "--links", "100 Mbit/s WAN", "--step-time", "0.5", "--json", "-")
    assert main(["plan", "methods", "--parameters", "1000", *cluster, "--strategies", "LocalSGD"]) == 0
    assert json.loads(capsys.readouterr().out)["on"] == repr(ls.Simulated(4, 0.5, 25e-3, 12.5e6, hosts=(2, 2)))


def test_a_probe_is_the_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "probe.json")
    FOUND.write(file)
    few = ("plan", "methods", "--parameters", "1000", "--strategies", "LocalSGD", "--json", "-", "--probe", file)
    assert main([*few]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["on"] == repr(ls.Simulated.like(file))
    assert main([*few, "--workers", "8", "--step-time", "0.5"]) == 0
    assert json.loads(capsys.readouterr().out)["on"] == repr(
        replace(ls.Simulated.like(file).scaled(8), step_time=0.5)
    )
    assert main([*few, "--links", "10 GbE"]) == 2
    assert "--hosts and --links contradict --probe" in capsys.readouterr().err


def test_steps_from_a_file_rank_whole_runs_by_money(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, picture = tmp_path / "steps.json", tmp_path / "plan.png"
    file.write_text(json.dumps({"LocalSGD(period=1)": 1000, "LocalSGD(period=256)": 9000}))
    paid = ("--minimize", "money", "--worker-hour", "2", "--gigabyte", "0.1")
    assert main([*COMMAND, *FEW, "--steps", str(file), *paid, "--plot", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "money of the run to the loss" in out
    assert "left out 1: their steps to the loss are not known" in out
    assert "s to the loss" in out
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_steps_are_counted_and_the_best_are_run_with_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random, file = np.random.default_rng(0), tmp_path / "clouds.npz"
    labels = random.integers(0, 2, 200)
    np.savez(file, x=random.normal(size=(200, 16)) + labels[:, None], y=labels)
    counting = (
        "--loss",
        "0.2",
        "--data",
        str(file),
        "--model",
        "Softmax()",
        "--longest",
        "60",
        "--periods",
        "1,2",
    )
    assert main([*COMMAND, *FEW, *counting, "--run", "2", "--json", "-"]) == 0
    out, told = capsys.readouterr()
    written = json.loads(out)
    assert {each["strategy"] for each in written["ranked"]} == {"LocalSGD(period=2)", "AllReduceSGD()"}
    assert all(each["steps"] > 0 for each in written["tried"])
    assert [len(each["runs"]) for each in written["runs"]] == [2, 2]
    assert (
        "Softmax(), to a loss of 0.2), LocalSGD(period=2) is the fastest; the first choice takes 0% longer" in told
    )


def test_a_module_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_planned_model.py").write_text(
        "class Tensor:\n    requires_grad = True\n    def numel(self): return 21\n"
        "class Net:\n    def parameters(self): return [Tensor(), Tensor()]\n"
        "def make(): return Net()\n"
        "net = Net()\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_planned_model", raising=False)
    command = ("plan", "methods", "--on", "Simulated(2)", "--strategies", "LocalSGD", "--json", "-")
    for name in ("Net", "make", "net"):
        assert main([*command, "--module", f"my_planned_model:{name}"]) == 0
        assert json.loads(capsys.readouterr().out)["parameters"] == 42
    for text, told in (
        ("my_planned_model", "--module must be MODULE:NAME"),
        ("my_planned_model:nothing", "cannot import --module my_planned_model:nothing"),
        ("my_planned_model:number", "is a int, which has no parameters()"),
    ):
        assert main([*command, "--module", text]) == 2
        assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--parameters", "0", "--on", "Simulated(2)"), "--parameters"),
        (("--parameters", "5", "--on", "Threads(2)"), "Threads is not a simulated"),
        (("--parameters", "5", "--on", "Simulated(2)", "--periods", "0"), "wanted numbers from 1 on"),
        (("--parameters", "5"), "describe the cluster: --on, --probe, or else --workers, --links, --step-time"),
        (
            ("--parameters", "5", "--hosts", "2,2"),
            "describe the cluster: --on, --probe, or else --links, --step-time",
        ),
        (
            ("--parameters", "5", "--on", "Simulated(2)", "--workers", "2"),
            "--workers and --on contradict each other",
        ),
        (("--parameters", "5", "--links", "5 parsec"), "links must be a latency and a bandwidth"),
        (("--on", "Simulated(2)"), "give the size of the model: --parameters, or --module"),
        (("--parameters", "5", "--on", "Simulated(2)", "--loss", "1", "--steps", "x"), "contradict each other"),
        (
            ("--parameters", "5", "--on", "Simulated(2)", "--steps", "no-file.json"),
            "cannot read --steps no-file.json",
        ),
        (("--parameters", "5", "--on", "Simulated(2)", "--json", "no/such/file"), "there is no folder"),
    ],
)
def test_bad_options_are_refused(options: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "methods", *options]) == 2
    assert said in capsys.readouterr().err
