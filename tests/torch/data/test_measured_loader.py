"""`loosestep stalls SCRIPT`: the DataLoader of a script is measured, and the script ends; nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader  # noqa: E402

from loosestep.cli.commands import main  # noqa: E402

SCRIPT = """
import sys
from pathlib import Path
import torch
from torch.utils.data import DataLoader, Dataset

class Rows(Dataset):
    def __init__(self, folder):
        self.files = sorted(Path(folder).glob("*.rows"))
    def __len__(self):
        return len(self.files)
    def __getitem__(self, i):
        return torch.tensor(list(self.files[i].read_bytes()))

rows = Rows(sys.argv[1])
first = DataLoader(rows, batch_size=4, shuffle=True, num_workers=int(sys.argv[2]))
second = DataLoader(rows, batch_size=2)
try:
    for epoch in range(int(sys.argv[3])):
        for batch in first:
            with open("steps", "a") as steps:
                steps.write(".")
        assert sum(map(len, second)) == len(rows)
except Exception:
    raise SystemExit("an end of the measurement is no error of the script's")
print("the script went on to its end")
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for number in range(40):
        (tmp_path / f"{number}.rows").write_bytes(bytes(100))
    (tmp_path / "train.py").write_text(SCRIPT)
    return tmp_path / "train.py"


def run(*arguments: object) -> int:
    return main(["stalls", "--batches", "4", "--warmup", "2", *map(str, arguments)])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_script_is_measured_and_ended(script: Path, workers: int, capsys: pytest.CaptureFixture[str]) -> None:
    iterate: Any = DataLoader.__iter__
    assert run("--json", "found.json", script, script.parent, workers, 1) == 0
    out = capsys.readouterr().out
    found = json.loads(Path("found.json").read_text())
    assert "to its end" not in out
    assert found["pipeline"] in (("serial", "prefetch") if workers == 0 else ("prefetch",))
    assert found["samples"] == 4
    assert 1 <= found["files"] <= 40  # also those that a worker read
    assert found["bytes"] == 100 * found["files"]
    assert found["cold"]["count"] == 4
    assert len(Path("steps").read_text()) == 3 * (2 + 4)
    assert f"Dropped from the page cache for the cold runs: {found['files']} files" in out
    assert DataLoader.__iter__ is iterate


def test_another_loader_is_chosen_by_its_number(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--loader", 1, "--files", script.parent, "--json", "-", script, script.parent, 0, 1) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 2
    assert len(Path("steps").read_text()) == 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0, 0), "the script has ended and iterated no DataLoader"),
        (("--loader", 5, 0, 1), "iterated only 2 DataLoaders, and --loader is 5"),
    ],
)
def test_a_script_that_ends_before_is_told_why(
    script: Path, arguments: tuple[Any, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    *options, workers, epochs = arguments
    assert run(*options, script, script.parent, workers, epochs) == 1
    assert words in capsys.readouterr().err


def test_a_script_that_leaves_its_loop_is_told_so(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script.write_text(SCRIPT.replace("in first:", "in map(next, 3 * [iter(first)]):"))  # three batches an epoch
    assert run(script, script.parent, 0, 2) == 1
    assert "left its loop and ended in the run synthetic" in capsys.readouterr().err
    assert run(script, script.parent, 0, 20) == 0  # epochs go on where the measurement stood


def test_a_script_that_raises_shows_its_own_traceback(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script.write_text("import sys\n\nsys.argv.index('nowhere')\n")
    assert run(script, "some", "arguments") == 1
    error = capsys.readouterr().err
    assert f'File "{script}", line 3' in error
    assert "ValueError: 'nowhere' is not in list" in error


def test_a_module_is_run_with_its_arguments(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script.with_name("as_module.py").write_text(SCRIPT)
    assert run("-m", "as_module", script.parent, 0, 1) == 0
    assert "Dropped from the page cache" in capsys.readouterr().out


def test_workers_that_stay_are_measured_too(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script.write_text(SCRIPT.replace("shuffle=True,", "shuffle=True, persistent_workers=True,"))
    assert run("--json", "-", script, script.parent, 2, 1) == 0
    assert json.loads(capsys.readouterr().out)["workers"] == 2


def test_what_cannot_be_run_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("none.py") == 2
    assert "there is no script none.py" in capsys.readouterr().err
    assert run() == 2
