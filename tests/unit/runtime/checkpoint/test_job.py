"""One job at a time writes to a folder that it can write to, and what else is there is the user's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.unit.runtime.checkpoint.runs import go, same
from tests.unit.runtime.checkpoint.runs import quick_disk as quick_disk

import loosestep as ls
from loosestep.foundation.errors import CheckpointError
from loosestep.runtime.checkpoint import disk
from loosestep.runtime.checkpoint import folder as checkpoint


def test_two_runs_of_one_process_do_not_share_a_folder(tmp_path: Path) -> None:
    said = []

    def inner(progress: ls.Progress) -> None:
        if not said:
            with pytest.raises(CheckpointError, match="is written by another run of this process"):
                go(tmp_path / "run", resume=True)
            said.append(progress.step)

    whole = go(tmp_path / "run", every=4, callback=inner)
    assert said == [4]
    assert same(go(tmp_path / "run", resume=True), whole)


def test_a_folder_that_cannot_be_written_is_found_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    steps = []

    def batches(rank: int, size: int) -> Iterator[int]:
        steps.append(rank)
        return iter([0] * 5)

    with pytest.raises(
        CheckpointError, match=r"^cannot write to \S+/file/run: Not a directory; nothing was trained yet"
    ):
        ls.run(ls.LocalSGD(2), lambda x, b: x, np.ones(2), batches, checkpoint=tmp_path / "file" / "run")
    assert not steps


def test_what_else_is_in_the_folder_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever its name begins with."""
    for name in ("step-final", "step-100", "step-000000001.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(name)
    (tmp_path / "step-100.pt").write_text("weights")
    whole = go(tmp_path)
    for name in ("step-final", "step-100", "step-000000001.old"):
        assert (tmp_path / name / "manifest.json").read_text() == name
    assert (tmp_path / "step-100.pt").read_text() == "weights"
    assert same(go(tmp_path, resume=True), whole)
    assert "step-" not in capsys.readouterr().err


def test_a_job_that_ended_before_the_lock_was_taken_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder was empty when this run looked, and another wrote there until it let go of the lock."""
    before = checkpoint.locking.take

    def take(folder: Path, *, alone: bool) -> str:
        monkeypatch.undo()
        go(tmp_path, steps=8)
        return before(folder, alone=alone)

    monkeypatch.setattr(checkpoint.locking, "take", take)
    with pytest.raises(CheckpointError, match=r"holds a checkpoint: pass resume=True to go on from it, or"):
        go(tmp_path)
    assert same(go(tmp_path, resume=True), go(tmp_path / "whole"))


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nothing")
    with pytest.raises(ValueError, match=r"checkpoint must be a folder, but \S+/link is a link to nothing$"):
        go(tmp_path / "link")


@pytest.mark.parametrize("what", ["step-000000008/rank-00001", "step-000000008/manifest"])
def test_what_a_full_disk_did_not_take_takes_no_room(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a run that goes on would need room for one checkpoint more."""
    before = disk.write

    def write(path: Path, content: bytes) -> None:
        before(path, content)
        if what in str(path):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "write", write)
    with pytest.raises(CheckpointError, match="No space left on device; the previous checkpoint stays"):
        go(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").glob("step-*")] == ["step-000000004"]
    monkeypatch.undo()
    assert same(go(tmp_path / "run", resume=True), go(tmp_path / "whole"))
