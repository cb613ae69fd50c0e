"""Where the last checkpoint is damaged a run goes on from the newest whole one, and says so."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.runtime.checkpoint.runs import each_strategy, go, newest, same, spoil
from tests.unit.runtime.checkpoint.runs import quick_disk as quick_disk

import loosestep as ls
from loosestep.foundation.errors import CheckpointError
from loosestep.runtime.checkpoint import disk
from loosestep.runtime.checkpoint.folder import Folder
from loosestep.runtime.checkpoint.resume_point import choose

DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a part": (lambda run: spoil(newest(run) / "rank-00001.safetensors"), "rank-00001.safetensors is damaged"),
    "a part is missing": (
        lambda run: (newest(run) / "rank-00000.safetensors").unlink(),
        "rank-00000.safetensors cannot be read as a checkpoint: No such file or directory",
    ),
    "its folder is missing": (lambda run: shutil.rmtree(newest(run)), "rank-00000.safetensors cannot be read"),
}


@each_strategy
@pytest.mark.parametrize("kind", DAMAGES)
def test_the_one_before_is_used_where_the_newest_is_damaged(
    strategy: ls.Strategy, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    go(tmp_path / "run", strategy, steps=12)
    damage, words = DAMAGES[kind]
    damage(tmp_path / "run")
    capsys.readouterr()
    resumed = go(tmp_path / "run", strategy, resume=True)
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert words in told
    assert told.endswith("; going on from step 8 (step-000000008), which is whole\n")
    assert same(resumed, go(tmp_path / "whole", strategy))
    assert sorted(path.name[:14] for path in (tmp_path / "run").glob("step-*")) == [
        "step-000000016",
        "step-000000020",
    ]


@each_strategy
@pytest.mark.parametrize("keep", [1, 2])
@pytest.mark.parametrize("left", ["missing", "empty", "spoilt"])
def test_a_manifest_that_is_lost_is_found_beside_the_parts(
    strategy: ls.Strategy, keep: int, left: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    go(tmp_path / "run", strategy, steps=12, keep=keep)
    manifest = tmp_path / "run" / "manifest.json"
    {"missing": manifest.unlink, "empty": lambda: manifest.write_text(""), "spoilt": lambda: spoil(manifest)}[
        left
    ]()
    with pytest.raises(ValueError, match="holds a checkpoint: pass resume=True"):
        go(tmp_path / "run", strategy)
    resumed = go(tmp_path / "run", strategy, resume=True)
    told = capsys.readouterr().err
    assert re.fullmatch(
        r"\S*/run/manifest.json is (missing|not a checkpoint's manifest: .*); going on from step 12 "
        r"\(step-000000012-again\), which is whole\n", told
    )  # fmt: skip
    assert same(resumed, go(tmp_path / "whole", strategy))


def test_a_newer_one_that_did_not_count_is_not_used(tmp_path: Path) -> None:
    """Its manifest is beside its parts, but the run ended before DIR/manifest.json named it."""
    go(tmp_path / "run", steps=12)
    counting = (tmp_path / "run" / "manifest.json").read_bytes()
    go(tmp_path / "run", steps=16, resume=True)
    (tmp_path / "run" / "manifest.json").write_bytes(counting)
    found = Folder(tmp_path / "run", {"workers": 2}, resume=True)
    assert [each.step for each in found.candidates()] == [12]  # type: ignore[union-attr]


def test_where_none_is_whole_the_newest_is_named(tmp_path: Path) -> None:
    go(tmp_path / "run")
    for part in (tmp_path / "run").rglob("rank-00001.safetensors"):
        spoil(part)
    with pytest.raises(
        CheckpointError, match=r"step-000000020-again/rank-00001.safetensors is damaged: it does not match"
    ):
        go(tmp_path / "run", resume=True)


def test_a_part_that_may_not_be_read_is_no_reason_to_lose_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(tmp_path / "run")

    def refuse(path: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(disk, "measure", refuse)
    with pytest.raises(
        CheckpointError, match=r"rank-00000.safetensors cannot be read as a checkpoint: Permission denied$"
    ):
        go(tmp_path / "run", resume=True)


def test_processes_that_find_other_checkpoints_are_told(tmp_path: Path) -> None:
    """Each has a folder of its own, by mistake."""
    go(tmp_path / "run")
    found = Folder(tmp_path / "run", {"workers": 2}, resume=True)
    with pytest.raises(CheckpointError, match=rf"^worker 1 does not find what worker 0 finds in {tmp_path}/run$"):
        choose(found, [0], lambda mine: [mine, mine if isinstance(mine, str) else []])


def test_what_another_process_cannot_use_nobody_does(tmp_path: Path) -> None:
    go(tmp_path / "run")
    found = Folder(tmp_path / "run", {"workers": 2}, resume=True)

    def ask(mine: Any) -> list[Any]:
        """The part of rank 1 is damaged in the newest, and a part of rank 1 is all that process 1 reads."""
        newest = [["rank 1 is damaged", False], mine] if mine == ["", False] and not asked else [mine, mine]
        asked.extend([1] if mine == ["", False] else [])
        return newest

    asked: list[int] = []
    chosen = choose(found, [0], ask)
    assert chosen is not None
    assert chosen.number == found.candidates()[1].number  # type: ignore[union-attr]
