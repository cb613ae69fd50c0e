"""A folder of checkpoints: what counts, what stays, what is removed, and which of them may be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.runtime.checkpoint.runs import quick_disk as quick_disk
from tests.unit.values import drawn

from loosestep.foundation.errors import CheckpointError
from loosestep.runtime.checkpoint import disk
from loosestep.runtime.checkpoint import folder as folders
from loosestep.runtime.checkpoint.folder import Folder

SIGNATURE = {"strategy": "A()", "workers": 2}


def opened(path: Path, resume: bool = False, run: str = "ab", **how: Any) -> Folder:
    made = Folder(path, {**SIGNATURE, **how.pop("signature", {})}, resume=resume, **how)
    made.begin(run)
    return made


def save(folder: Folder, step: int) -> None:
    """A checkpoint of two workers, whose only number is the step."""
    parts = [folder.write(step, rank, {"x": np.full(2, step + rank / 2)}, {"rank": rank}) for rank in range(2)]
    folder.commit(step, parts, {"step": step})


def names(path: Path) -> list[str]:
    return sorted(each.name for each in path.glob("step-*"))


def steps(folder: Folder) -> list[Any]:
    return [each if isinstance(each, str) else each.step for each in folder.candidates()]


@drawn
@given(st.lists(st.integers(0, 50), min_size=1, max_size=6, unique=True), st.integers(1, 3))
def test_the_newest_stay_and_the_last_counts(tmp_path_factory: Any, at: list[int], keep: int) -> None:
    path = tmp_path_factory.mktemp("folder")
    folder = opened(path, keep=keep)
    for step in at:
        save(folder, step)
    assert names(path) == sorted(f"step-{step:09d}" for step in at[-keep:])
    again = opened(path, resume=True)
    assert steps(again) == at[-keep:][::-1]
    again.use(again.candidates()[0])  # type: ignore[arg-type]
    assert [again.read(rank)[0]["x"].tolist() for rank in range(2)] == [[at[-1]] * 2, [at[-1] + 0.5] * 2]


def test_the_same_step_again_is_another_folder(tmp_path: Path) -> None:
    folder = opened(tmp_path, keep=1)
    for _ in range(3):
        save(folder, 7)
    (name,) = names(tmp_path)
    assert name == folder.current
    assert name.startswith("step-000000007")
    assert json.loads((tmp_path / "manifest.json").read_text())["folder"] == name


def test_a_part_counts_only_with_its_manifest(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    save(folder, 1)
    folder.write(2, 0, {"x": np.ones(2)}, {})
    assert steps(opened(tmp_path, resume=True)) == [1]


def test_a_checkpoint_that_lacks_a_part_is_not_made(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    save(folder, 1)
    parts = [folder.write(2, rank, {"x": np.ones(2)}, {}) for rank in range(2)]
    folder.part("step-000000002", 1).unlink()
    with pytest.raises(CheckpointError, match="is not what worker 1 wrote: all workers must be given one folder"):
        folder.commit(2, parts, {})
    assert json.loads((tmp_path / "manifest.json").read_text())["step"] == 1


@pytest.mark.parametrize("what", ["part", "inner", "outer"])
def test_where_the_disk_refuses_the_one_before_counts(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, before = opened(tmp_path), disk.write
    save(folder, 1)

    def refuse(path: Path, content: bytes) -> None:
        kind = "part" if "rank-" in path.name else "outer" if path.parent == tmp_path else "inner"
        if kind == what:
            raise OSError(28, "No space left on device")
        before(path, content)

    monkeypatch.setattr(disk, "write", refuse)
    with pytest.raises(CheckpointError, match="No space left on device; the previous checkpoint stays$"):
        save(folder, 2)
    monkeypatch.undo()
    assert steps(opened(tmp_path, resume=True)) == [1]


def test_a_job_without_leave_overwrites_nothing(tmp_path: Path) -> None:
    save(opened(tmp_path), 1)
    with pytest.raises(
        ValueError, match="holds a checkpoint: pass resume=True to go on from it, or another folder"
    ):
        opened(tmp_path)
    with pytest.raises(ValueError, match="holds a checkpoint: call it otherwise"):
        opened(tmp_path, advice="call it otherwise")
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ValueError, match="holds a checkpoint"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"strategy": "B()"}, r"was written with strategy A\(\), this run has B\(\)$"),
        ({"more": 1}, "was written with more None, this run has 1$"),
        ({"workers": 3}, None),
    ],
)
def test_another_run_is_refused_and_another_number_of_workers_is_not(
    wanted: Any, words: str | None, tmp_path: Path
) -> None:
    save(opened(tmp_path), 1)
    folder = opened(tmp_path, resume=True, signature=wanted)
    (found,) = folder.candidates()
    if words is None:
        folder.check_signature(found)  # type: ignore[arg-type]
        return
    with pytest.raises(CheckpointError, match=words):
        folder.check_signature(found)  # type: ignore[arg-type]


def test_the_first_tensor_that_differs_is_named(tmp_path: Path) -> None:
    there = {"tensors": [["a", [2], "float32"], ["b", [3], "float32"]]}
    save(opened(tmp_path, signature=there), 1)
    for wanted, words in (
        (
            [["a", [2], "float32"], ["b", [4], "float32"]],
            r"tensor 1 'b' \(3,\) float32, this run has 'b' \(4,\) floa",
        ),
        ([["a", [2], "float32"]], "2 tensors, this run has 1$"),
    ):
        folder = opened(tmp_path, resume=True, signature={"tensors": wanted})
        with pytest.raises(CheckpointError, match=words):
            folder.check_signature(folder.candidates()[0])  # type: ignore[arg-type]


def test_only_what_precedes_in_the_same_run_may_be_read(tmp_path: Path) -> None:
    save(opened(tmp_path / "other", run="cd"), 9)
    folder = opened(tmp_path / "run")
    for step in (1, 2):
        save(folder, step)
    (tmp_path / "other" / "step-000000009").rename(tmp_path / "run" / "step-000000009")
    assert steps(opened(tmp_path / "run", resume=True)) == [2, 1]
    (tmp_path / "run" / "manifest.json").unlink()
    found = steps(opened(tmp_path / "run", resume=True))
    assert found[0] == f"{tmp_path}/run/manifest.json is missing"
    assert found[1] == 2


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = Folder(tmp_path / "file" / "x", SIGNATURE, resume=False)
    with pytest.raises(
        CheckpointError, match=r"^cannot write to \S+/file/x: Not a directory; nothing yet; use anothe"
    ):
        folder.probe(0, "nothing yet; ")
    with pytest.raises(ValueError, match="checkpoint must be a folder, but .*/file is a file$"):
        Folder(tmp_path / "file", SIGNATURE, resume=False)


def test_runs_draw_ids_of_their_own() -> None:
    assert len({folders.drawn() for _ in range(100)}) == 100
