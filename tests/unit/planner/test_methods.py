"""Which method and period is chosen, against the prices of the cluster; and the command that prints it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import loosestep as ls
from loosestep.cli.commands import main
from loosestep.planner.methods import rank, variants

CLUSTER = ls.Simulated(4, step_time=0.1, latency=0.01, bandwidth=1.25e7)
AVERAGE = 2 * 0.01 + 2 * 3 / 4 * 1e6 / 1.25e7  # seconds, of 250,000 values of float32


def test_the_shortest_period_that_hardly_waits_is_chosen() -> None:
    for waiting in (0.05, 0.1, 0.5):
        found = rank([ls.LocalSGD()], 250_000, CLUSTER, waiting=waiting)
        allowed = [period for period in (1, 2, 4, 8, 16, 32) if AVERAGE / (AVERAGE + 0.1 * period) <= waiting]
        assert found.chosen[0].strategy == ls.LocalSGD(allowed[0])
        assert found.average_seconds == pytest.approx(AVERAGE)


def test_where_all_wait_the_one_that_waits_least_is_chosen() -> None:
    found = rank([ls.LocalSGD()], 250_000, CLUSTER, waiting=0.001, periods=(1, 4))
    assert found.chosen[0].strategy == ls.LocalSGD(4)
    assert len(found.tried) == 2


def test_the_fastest_comes_first() -> None:
    found = rank([ls.AllReduceSGD(), ls.LocalSGD()], 250_000, CLUSTER)
    times = [each.step_seconds for each in found.chosen]
    assert times == sorted(times)
    assert isinstance(found.chosen[-1].strategy, ls.AllReduceSGD)


def test_a_period_that_a_strategy_refuses_is_left_out() -> None:
    periods = [steps for _, steps in variants(ls.LocalSGD(4, steps=(4, 2)), (8, 1, 2, 4))]
    assert periods == [4, 8]
    assert variants(ls.AllReduceSGD(), (1, 2)) == [(ls.AllReduceSGD(), 1)]


def test_what_cannot_be_predicted_is_named() -> None:
    found = rank([ls.AdaptiveLocalSGD(), ls.LocalSGD()], 100, CLUSTER)
    assert [strategy for strategy, _ in found.refused] == [ls.AdaptiveLocalSGD()]
    with pytest.raises(ValueError, match="none of the strategies can be predicted: what AdaptiveLocalSGD"):
        rank([ls.AdaptiveLocalSGD()], 100, CLUSTER)
    with pytest.raises(ValueError, match="waiting must be from 0 to 1"):
        rank([ls.LocalSGD()], 100, CLUSTER, waiting=1.5)
    with pytest.raises(ValueError, match="strategies must hold at least one"):
        rank([], 100, CLUSTER)


COMMAND = ("plan", "methods", "--parameters", "250000", "--on", repr(CLUSTER))


def test_the_command_prints_a_table_and_writes_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plan.json"
    assert main([*COMMAND, "--strategies", "LocalSGD, AllReduceSGD, DBS", "--json", str(file)]) == 0
    out = capsys.readouterr().out
    assert "LocalSGD(period=16)" in out
    assert "An average of 250,000 parameters takes 0.14 s between 4 workers, a local step 0.1 s" in out
    assert "left out DBS()" in out
    written = json.loads(file.read_text())
    assert written["chosen"][0]["strategy"] == "LocalSGD(period=16)"
    assert len(written["tried"]) == 10
    assert written["average_seconds"] == pytest.approx(AVERAGE)


def test_all_strategies_are_predicted_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMAND, "--json", "-", "--periods", "8"]) == 0
    names = [row["strategy"] for row in json.loads(capsys.readouterr().out)["chosen"]]
    assert {"AllReduceSGD()", "LocalSGD()", "DiLoCo(period=8)"} <= set(names)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--parameters", "0", "--on", "Simulated(2)"), "--parameters"),
        (("--parameters", "5", "--on", "Threads(2)"), "Threads is not a simulated"),
        (("--parameters", "5", "--on", "Simulated(2)", "--periods", "0"), "wanted numbers from 1 on"),
        (("--parameters", "5"), "Missing option '--on'"),
        (("--parameters", "5", "--on", "Simulated(2)", "--json", "no/such/file"), "there is no folder"),
    ],
)
def test_bad_options_are_refused(options: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "methods", *options]) == 2
    assert said in capsys.readouterr().err


def test_wider_parameters_take_longer_to_average_and_to_send() -> None:
    narrow, wide = (rank([ls.LocalSGD()], 250_000, CLUSTER, dtype=dtype) for dtype in ("float32", "float64"))
    assert wide.average_seconds - 2 * 0.01 == pytest.approx(2 * (narrow.average_seconds - 2 * 0.01))
    assert wide.tried[0].bytes_sent == 2 * narrow.tried[0].bytes_sent
