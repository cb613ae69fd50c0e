"""The command line, as its users meet it: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import loosestep as ls
from loosestep.cli import machine_info
from loosestep.cli.commands import all_of_kind, main
from loosestep.cli.compared_methods import STORY
from loosestep.foundation.errors import WorkerFailed
from loosestep.requests import Buffer
from loosestep.runtime import banner

SCHEMA = {
    "strategy",
    "test_accuracy",
    "loss",
    "seconds",
    "samples_per_second",
    "bytes_sent",
    "waiting_share",
    "consensus_distance",
}


class Ended:
    """How a command ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> object:
    """Runs a command in this process."""

    def run(*arguments: object) -> Ended:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Ended(code, *capsys.readouterr())

    return run


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A small data set that a straight line divides."""
    random = np.random.default_rng(0)
    x = random.normal(size=(120, 3))
    np.savez(tmp_path / "rows.npz", x=x, y=(x[:, 0] > 0).astype(int))
    return tmp_path / "rows.npz"


def test_compare_runs_every_strategy_on_digits(command: object, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    ended = command(
        "compare",
        "--strategies",
        "all",
        "--on",
        "Threads(4)",
        "--seeds",
        1,
        "--epochs",
        3,
        "--json",
        tmp_path / "rows.json",
        "--out",
        tmp_path / "out",
    )
    assert ended.code == 0, ended.err
    found = json.loads((tmp_path / "rows.json").read_text())
    assert [row["strategy"] for row in found] == [repr(strategy) for strategy in all_of_kind(ls.Strategy)]
    for row in found:
        assert row.keys() >= SCHEMA
        # Chance is 0.1. Threads share cores as they come: where one has made its steps before another's first,
        # a method that waits for a gradient of each (Ringleader) takes few updates.
        assert row["test_accuracy"] > 0.3, row
        assert all(isinstance(row[key], (int, float)) for key in SCHEMA - {"strategy"}), row
    assert sum(row["test_accuracy"] > 0.8 for row in found) >= 0.9 * len(found)
    assert (tmp_path / "out" / "accuracy.png").read_bytes().startswith(b"\x89PNG")


def test_every_row_of_the_default_comparison_learns(command: object, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    ended = command("compare", "--epochs", 4, "--seeds", 1, "--json", tmp_path / "rows.json")
    assert ended.code == 0, ended.err
    found = json.loads((tmp_path / "rows.json").read_text())
    assert [row["strategy"] for row in found] == [repr(contender.strategy) for contender in STORY]
    for row in found:
        assert row["test_accuracy"] > 0.9, row
        assert row["virtual"], row
        assert row["problem"] is None, row


def test_a_strategy_that_is_another_one_here_is_marked(command: object, rows: Path) -> None:
    strategies = "FedAvg(period=4), LocalSGD(period=4), CDSGD, DBS, AllReduceSGD"
    file = rows.parent / "rows.json"
    ended = command("compare", "--data", rows, "--strategies", strategies, "--seeds", 2, "--json", file)
    found = {row["strategy"]: row["as"] for row in json.loads(file.read_text())}
    assert found == {
        "FedAvg(period=4)": "LocalSGD(period=4)",
        "LocalSGD(period=4)": None,
        "CDSGD()": None,
        "DBS()": "AllReduceSGD()",
        "AllReduceSGD()": None,
    }
    assert re.search(r"FedAvg\(period=4\) as +\n +LocalSGD\(period=4\) here +\n", ended.out)


def test_rates_are_tuned_on_a_seed_that_is_not_shown(command: object, rows: Path) -> None:
    options = "--strategies", "LocalSGD, EASGD(period=2)", "--optimizer", "SGD(0.003)", "--epochs", 2
    folder = rows.parent / "out"
    ended = command("compare", "--data", rows, *options, "--seeds", 2, "--tune", "--json", "-", "--out", folder)
    assert "on seed 2, which is not shown" in ended.err.replace("\n", " ")
    assert [row["seeds"] for row in json.loads(ended.out)] == [[0, 1]] * 2
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    tried = {(line["optimizer"], line["seed"]) for line in lines if line.get("tuning")}
    assert tried == {("SGD(rate=0.001)", 2), ("SGD(rate=0.003)", 2), ("SGD(rate=0.009)", 2)}
    assert all(row["optimizer"] == "SGD(rate=0.009)" for row in json.loads(ended.out))  # all three are low
    assert len(re.findall(r" 0\.009\+ ", ended.err)) == 2


def test_an_optimizer_that_is_given_is_that_of_all(command: object, rows: Path) -> None:
    options = "--data", rows, "--optimizer", "SGD(0.05)", "--seeds", 1, "--epochs", 1, "--json", "-"
    found = json.loads(command("compare", *options).out)
    assert {row["optimizer"] for row in found} == {"SGD(rate=0.05)"}
    assert [row["strategy"] for row in found] == list(dict.fromkeys(repr(each.strategy) for each in STORY))


def test_all_shows_every_strategy_once_more(command: object, rows: Path) -> None:
    options = "--data", rows, "--seeds", 1, "--epochs", 1, "--by-label", "--json", "-"
    ended = command("compare", "--all", *options)
    kinds = [row["strategy"].split("(")[0] for row in json.loads(ended.out)]
    bound = {type(each).__name__ for each in all_of_kind(ls.Strategy) if ls.Need.GLOBAL_BATCHES in each.needs}
    assert set(kinds) == {type(each).__name__ for each in all_of_kind(ls.Strategy)} - bound
    assert kinds[: len(STORY)] == [type(each.strategy).__name__ for each in STORY]
    assert "left out: DBS() shares out rows anew, and --by-label deals them to workers for good" in ended.err


def test_the_start_block_says_how_rates_are_scaled(command: object, rows: Path) -> None:
    options = "--strategies", "LocalSGD", "--workers", 3, "--scale-rate", "linear", "--epochs", 1
    ended = command("compare", "--data", rows, *options, "--optimizer", "Nesterov(Warmup(0.01, steps=20))")
    assert ended.code == 0, ended.err
    assert "linear: the learning rate times 3, for 3 workers" in ended.out


def test_by_label_nothing_can_be_shared_out(command: object, rows: Path) -> None:
    ended = command("compare", "--data", rows, "--strategies", "LocalSGD, DBS", "--by-label")
    assert ended.code == 2
    assert "--by-label deals rows to workers for good, and DBS() shares them out anew" in ended.err


def test_the_start_block_and_the_table_say_what_was_done(command: object, rows: Path) -> None:
    ended = command("compare", "--data", rows, "--strategies", "EASGD(period=2), Hogwild", "--on", "Threads(3)")
    assert "MLP(64), 386 parameters, 1.54 kB" in ended.out
    assert "3 on Threads(3), CPU" in ended.out
    assert "8 a worker, 24 together" in ended.out
    assert "learning rate 0.03" in ended.out
    assert "EASGD(period=2)  Elastic averaging" in ended.out
    table = ended.out[ended.out.index(" method ") :]
    assert len(re.findall(r"^ (?:EASGD|Hogwild)\S+ +\d\.\d{4} ±\.\d{4}[* ]", table, re.MULTILINE)) == 2
    assert "mean ±standard deviation over 3 seeds; one test row is .042" in ended.out
    assert "* best of its column" in ended.out
    assert "virtual" not in ended.out


def test_one_that_learns_is_starred_beside_one_that_does_not(command: object, rows: Path) -> None:
    strategies = "EASGD(period=2), EASGD(period=2, moving_rate=0.0)"
    ended = command("compare", "--data", rows, "--strategies", strategies)
    table = ended.out[ended.out.index(" method ") :]
    assert re.search(r"EASGD\(period=2\) +\d\.\d{4} ±\.\d{4}\*", table)


def test_with_one_seed_nothing_is_starred(command: object, rows: Path) -> None:
    strategies = "EASGD(period=2), EASGD(period=2, moving_rate=0.0)"
    ended = command("compare", "--data", rows, "--strategies", strategies, "--seeds", 1)
    assert "*" not in ended.out[ended.out.index(" method ") :]
    assert "with one seed there is no spread, so no star says which is best" in ended.out


def test_rates_that_explode_are_warned_of_once_with_the_numbers(command: object, rows: Path) -> None:
    bad, good = "EASGD(period=2, moving_rate=0.9)", "EASGD(period=2)"
    ended = command("compare", "--data", rows, "--strategies", f"{bad}, {good}", "--workers", 3)
    assert ended.out.count("warning: ") == 1
    assert f"warning: {bad}: moving_rate 0.9 explodes when all 3 workers meet the center at once" in ended.out
    assert "it must be below 2 / (n + 1) = 0.5, and is 0.3 by default" in ended.out


def test_virtual_seconds_are_marked_and_repeat_exactly(command: object, rows: Path) -> None:
    arguments = ["compare", "--data", rows, "--on", "Simulated(6, latency=5e-3, bandwidth=12.5e6)", "--json", "-"]
    first, second = command(*arguments), command(*arguments)
    assert first.out == second.out
    assert "virtual s: seconds of the simulator's clock" in first.err
    assert re.search(r"virtual s +virtual s", first.err)
    assert re.search(r"6 on Simulated\(.*latency=0\.005, .*\), CPU; seconds are virtual", first.err)
    assert all(row["virtual"] for row in json.loads(first.out))


def test_metrics_are_lines_of_json(command: object, rows: Path, tmp_path: Path) -> None:
    command("compare", "--data", rows, "--strategies", "LocalSGD, CDSGD", "--epochs", 4, "--out", tmp_path / "o")
    lines = [json.loads(line) for line in (tmp_path / "o" / "metrics.jsonl").read_text().splitlines()]
    assert {line["strategy"] for line in lines} == {"LocalSGD()", "CDSGD()"}
    for method, seed in product(("LocalSGD()", "CDSGD()"), (0, 1, 2)):
        steps = [line["step"] for line in lines if (line["strategy"], line["seed"]) == (method, seed)]
        assert steps == sorted(steps)
        assert len(steps) >= 4
    assert all(line["virtual"] for line in lines)
    wanted = {"seconds", "samples", "train_loss", "test_accuracy", "loss", "bytes_sent", "waiting_share"}
    assert all(line.keys() >= wanted for line in lines)


def test_files_are_replaced_and_never_left_half_written(command: object, rows: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text("old")
    command("compare", "--data", rows, "--strategies", "LocalSGD", "--json", tmp_path / "rows.json")
    assert json.loads((tmp_path / "rows.json").read_text())[0]["strategy"] == "LocalSGD()"
    assert not list(tmp_path.glob(".*"))


def test_the_seconds_to_a_target_are_shown(command: object, rows: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    ended = command("compare", "--data", rows, "--strategies", "LocalSGD", "--target", 0.5, "--json", file)
    assert re.search(r"\bto 0\.5\b", ended.out)
    assert json.loads(file.read_text())[0]["seconds_to_target"] > 0


def test_a_strategy_that_diverges_gets_a_row_that_says_so(command: object, rows: Path, tmp_path: Path) -> None:
    options = ["--data", rows, "--model", "Softmax", "--json", tmp_path / "rows.json", "--on", "Simulated(4)"]
    options += ["--optimizer", "SGD(2.5e38)", "--out", tmp_path / "out"]
    ended = command("compare", "--strategies", "AllReduceSGD, EASGD(moving_rate=0.0)", *options)
    found = json.loads((tmp_path / "rows.json").read_text())
    bad = [row for row in found if row["problem"]]
    assert bad
    assert all("the run diverged" in row["problem"] and row["test_accuracy"] is None for row in bad)
    assert "diverged" in ended.out
    assert ended.code == (1 if len(bad) == 2 else 0)


def test_a_training_that_diverges_is_a_failure(command: object, rows: Path) -> None:
    ended = command("train", "--strategy", "AllReduceSGD", "--data", rows, "--optimizer", "SGD(1e38)")
    assert ended.code == 1
    assert re.fullmatch(r"Error: the loss of worker \d is \w+ at step \d+: the run diverged .*\n", ended.err)


def test_by_label_and_all_the_other_options_do_something(command: object, rows: Path) -> None:
    def run(*options: object) -> list[dict[str, object]]:
        strategies = ["--strategies", "LocalSGD(period=2)", "--on", "Simulated(2)"]
        return json.loads(command("compare", "--data", rows, *strategies, "--json", "-", *options).out)

    plain = run()
    changed = (
        ["--by-label"],
        ["--fraction", 0.75],
        ["--seed", 1],
        ["--batch", 4],
        ["--epochs", 3],
        ["--model", "Softmax()"],
        ["--optimizer", "SGD(0.5)"],
    )
    for options in changed:
        assert run(*options)[0]["loss"] != plain[0]["loss"], options
    assert run() == plain


def test_train_saves_parameters_that_can_be_loaded(command: object, rows: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    ended = command("train", "--strategy", "EASGD(period=2)", "--data", rows, "--model", "MLP(5)", "--save", file)
    assert ended.code == 0, ended.err
    tensors = load_file(file)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    assert shapes == {"weights.0": (3, 5), "biases.0": (5,), "weights.1": (5, 2), "biases.1": (2,)}


@pytest.mark.parametrize("strategy", ["LocalSGD(period=3)", "EASGD"])
def test_a_resumed_training_ends_as_one_that_never_stopped(
    command: object, rows: Path, tmp_path: Path, strategy: str
) -> None:
    def train(name: str, folder: str, on: str, *options: object) -> Ended:
        common = ["--data", rows, "--on", on, "--checkpoint", tmp_path / folder, "--epochs", 4]
        outputs = ["--save", tmp_path / name, "--out", tmp_path / f"out-{folder}"]
        return command("train", "--strategy", strategy, *common, *outputs, *options)

    assert train("whole", "a", "Simulated(2)").code == 0
    assert train("killed", "b", "Failing(Simulated(2), at_request=45)").code == 1
    ended = train("resumed", "b", "Simulated(2)", "--resume")
    assert ended.code == 0, ended.err
    assert "step 6/24" not in ended.out
    assert (tmp_path / "resumed").read_bytes() == (tmp_path / "whole").read_bytes()
    steps = [json.loads(line)["step"] for line in (tmp_path / "out-b" / "metrics.jsonl").read_text().splitlines()]
    assert (steps[0], steps[-1]) == (6, 24)


def test_a_checkpoint_of_another_run_is_refused(command: object, rows: Path, tmp_path: Path) -> None:
    common = ["--data", rows, "--checkpoint", tmp_path / "c", "--epochs", 1]
    assert command("train", "--strategy", "EASGD", *common).code == 0
    ended = command("train", "--strategy", "LocalSGD", *common, "--resume")
    assert ended.code == 1
    assert "EASGD()" in ended.err
    ended = command("train", "--strategy", "EASGD", *common)
    assert ended.code == 2
    assert "holds a checkpoint: give --resume to go on from it, or another folder" in ended.err


WRONG = {
    ("compare", "--strategies", "EASGD(period=0)"): "EASGD: period must be at least 1, got 0",
    ("compare", "--strategies", "EASDG()"): "unknown strategy 'EASDG'; did you mean EASGD?",
    ("compare", "--strategies", "EASGD(perod=1)"): "EASGD has no option 'perod'; did you mean period?",
    ("compare", "--strategies", "EASGD(period="): "'(' was never closed",
    ("compare", "--strategies", ""): "nothing was written",
    ("compare", "--strategies", "SGD(0.1)"): "SGD is not a strategy",
    ("compare", "--model", "MLP(0)"): "a hidden layer must be at least 1, got 0",
    ("compare", "--optimizer", "SGD(-1.0)"): "rate must be at least 0 and finite, got -1.0",
    ("compare", "--on", "Threads(0)"): "n must be at least 1, got 0",
    ("compare", "--on", "Threads(4)", "--workers", "3"): "--workers 3 contradicts --on Threads(4), which has 4",
    ("compare", "--workers", "0"): "'--workers': 0 is not in the range",
    ("compare", "--epochs", "0"): "'--epochs': 0 is not in the range",
    ("compare", "--epochs", "many"): "'many' is not a valid integer",
    ("compare", "--batch", "-1"): "'--batch': -1 is not in the range",
    ("compare", "--seed", "-1"): "'--seed': -1 is not in the range",
    ("compare", "--target", "2"): "'--target': 2.0 is not in the range",
    ("compare", "--data", "digit"): "unknown data set 'digit'",
    ("compare", "--data", "nowhere.npz"): "there is no file nowhere.npz",
    ("compare", "--data-folder", "somewhere"): "digits has no files that could be in a folder, got somewhere",
    ("compare", "--json", "nowhere/rows.json"): "cannot write nowhere/rows.json: there is no folder nowhere",
    ("compare", "--bogus"): "No such option",
    (
        "compare",
        "--all",
        "--strategies",
        "EASGD",
    ): "--all and --strategies contradict each other",
    ("compare", "--seeds", "0"): "'--seeds': 0 is not in the range",
    (
        "compare",
        "--strategies",
        "DBS",
        "--fraction",
        "0.5",
    ): "--fraction deals rows to workers for good",
    ("train",): "Missing option '--strategy'",
    ("train", "--strategy", "EASGD", "--resume"): "--keep and --resume need --checkpoint DIR",
    ("train", "--strategy", "EASGD", "--keep", "3"): "--keep and --resume need --checkpoint DIR",
    ("train", "--strategy", "EASGD, EASGD"): "not a strategy",
    ("train", "--strategy", "EASGD", "--save", "nowhere/x"): "cannot write nowhere/x",
    ("bogus",): "No such command 'bogus'",
}


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_wrong_use_ends_with_two_and_one_sentence(
    arguments: tuple[str, ...], command: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = command(*arguments)
    assert ended.code == 2
    assert ended.err.startswith("Error: ")
    assert WRONG[arguments] in ended.err
    assert not ended.out


def arrays(**changes: object) -> dict[str, object]:
    x = np.random.default_rng(0).normal(size=(40, 3))
    return {"x": x, "y": np.arange(40) % 2} | changes


BAD_DATA = {
    "x_train holds 1 value that is not finite": {"x": np.where(np.arange(120).reshape(40, 3) == 4, np.nan, 1.0)},
    "x has shape (40, 3) but y has shape (39,)": {"y": np.arange(39) % 2},
    "x has 0 rows": {"x": np.zeros((0, 3)), "y": np.zeros(0, int)},
    "must hold labels from 0 on, got -1": {"y": np.arange(40) % 2 - 1},
}


@pytest.mark.parametrize("sentence", BAD_DATA)
def test_bad_data_is_a_failure(sentence: str, command: object, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", **arrays(**BAD_DATA[sentence]))
    ended = command("compare", "--data", tmp_path / "bad.npz")
    assert ended.code == 1
    assert ended.err.count("\n") == 1
    assert "bad.npz: " in ended.err
    assert sentence in ended.err


def test_a_worker_that_raises_is_a_failure_that_names_it(command: object, rows: Path) -> None:
    on = "Failing(Threads(4), rank=2, at_request=9)"
    ended = command("train", "--strategy", "AllReduceSGD", "--data", rows, "--on", on)
    assert ended.code == 1
    assert ended.err.startswith("Error: worker 2 failed in round")
    assert ended.err.count("\n") == 1


def test_debug_shows_where_an_error_came_from(rows: Path) -> None:
    with pytest.raises(WorkerFailed):
        main(["train", "--strategy", "EASGD", "--data", str(rows), "--on", "Failing(Threads(2))", "--debug"])


def test_nothing_at_all_shows_the_help(command: object) -> None:
    assert "compare" in command().out
    assert "--strategies" in command("compare", "--help").out
    assert ls.__version__ in command("--version").out


@pytest.mark.parametrize(
    ("module", "arguments", "sentence"),
    [
        ("sklearn", ["compare"], 'the digits come with scikit-learn: pip install "loosestep[demo]"'),
        ("matplotlib", ["compare", "--out", "o"], 'needs matplotlib: pip install "loosestep[demo]"'),
    ],
)
def test_what_is_not_installed_is_named_with_the_way_to_get_it(
    module: str, arguments: list[str], sentence: str, command: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, f"{module}.datasets", None)
    ended = command(*arguments)
    assert ended.code == 1
    assert sentence in ended.err
    assert not ended.out


def test_without_threadpoolctl_the_start_block_says_what_to_install(
    command: object, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    ended = command("compare", "--data", rows, "--strategies", "LocalSGD", "--epochs", 1)
    assert ended.code == 0
    assert "pip install threadpoolctl" in ended.out


def test_info_tests_the_core_and_tells_what_is_missing(command: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_info, "ELEMENTS", 1000)
    absent = machine_info.Package("no_such_module", "no-such-package", "nothing", "pip install nothing")
    monkeypatch.setattr(machine_info, "PARTS", (*machine_info.PARTS, absent))
    ended = command("info")
    assert ended.code == 0
    assert "checks, all passed" in ended.out
    assert "not installed: pip install nothing" in ended.out
    found = json.loads(command("info", "--json", "-").out)
    assert found["core"]["isa"] in found["core"]["isas"]
    assert found["rates"]["copy"] > 0
    forms = found["collectives"]
    assert forms["why"] == "needs two cores" or forms["pieces"][0][0] == 0 < forms["direct_from"]


def test_info_fails_where_the_core_is_wrong(command: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_info, "ELEMENTS", 1000)

    def scale(x: Buffer, a: float) -> None:
        """Something else."""

    monkeypatch.setitem(ls.ops.specification, "scale", scale)
    ended = command("info")
    assert ended.code == 1
    assert "failed: scale (float32, 1)" in ended.out


@pytest.mark.parametrize("strategy", all_of_kind(ls.Strategy), ids=repr)
def test_every_strategy_is_told_in_one_sentence(strategy: ls.Strategy) -> None:
    sentence = banner.summary(strategy)
    assert sentence.endswith(".")
    assert 20 < len(sentence) < 120


def started(*arguments: object) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "loosestep", *map(str, arguments)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_module_is_the_command() -> None:
    with started("compare", "--strategies", "EASGD(period=0)") as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert "period must be at least 1, got 0" in err


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal there")
def test_ctrl_c_in_a_comparison_shows_what_was_finished(rows: Path, tmp_path: Path) -> None:
    options = "--data", rows, "--seeds", 3, "--epochs", 1, "--json", tmp_path / "rows.json"
    strategies = "LocalSGD, CDSGD, " + ", ".join(f"EASGD({n})" for n in range(1, 100))
    with started("compare", "--strategies", strategies, *options) as process:
        for line in process.stdout:
            if line.strip().startswith("2/101"):  # two rows are finished
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    run = r"(loosestep: interrupted after step \d+ by Ctrl-C\n)?"  # where it came inside of one
    words = r"Interrupted: (stopped in EASGD\(.*\), seed \d; )?the rows above were finished\n"
    assert re.fullmatch(run + words, err)
    assert "Traceback" not in err
    assert re.search(r"^ LocalSGD\(\) +\d\.\d{4}", out, re.MULTILINE)
    found = json.loads((tmp_path / "rows.json").read_text())
    assert found[0]["strategy"] == "LocalSGD()"
    assert found[0]["seeds"] == [0, 1, 2]
    assert 2 <= len(found) < 101


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal there")
@pytest.mark.parametrize("on", ["Threads(2)", "Simulated(2)"])
def test_ctrl_c_ends_with_130_and_a_checkpoint_that_resumes(
    rows: Path, tmp_path: Path, on: str, command: object
) -> None:
    common = ["train", "--strategy", "LocalSGD", "--data", rows, "--on", on, "--checkpoint", tmp_path / "c"]
    with started(*common, "--epochs", 1_000_000) as process:
        for line in process.stdout:
            if "  step " in line:  # the run itself has begun
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Interrupted: the step was finished" in err
    assert "Traceback" not in err
    assert "test accuracy" in out
    assert (tmp_path / "c" / "manifest.json").exists()
    step = int(re.findall(r"step (\d+)/", line + out)[-1])
    assert command(*common, "--epochs", step // 6 + 2, "--resume").code == 0


@pytest.mark.parametrize("keep", [1, 3])
def test_as_many_checkpoints_stay_as_keep_says(keep: int, command: object, rows: Path, tmp_path: Path) -> None:
    saving = ["--checkpoint", tmp_path / "c", "--checkpoint-every", 2, "--keep", keep]
    ended = command("train", "--strategy", "LocalSGD", "--data", rows, "--epochs", 4, *saving)
    assert ended.code == 0, ended.err
    assert len(list((tmp_path / "c").glob("step-*"))) == keep
