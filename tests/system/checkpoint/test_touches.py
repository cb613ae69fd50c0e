"""A run that ends, or is refused, at any touch of the disk goes on to the same bits."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.runtime.checkpoint.runs import STRATEGIES, go, same
from tests.unit.runtime.checkpoint.runs import quick_disk as quick_disk

import loosestep as ls
from loosestep.foundation.errors import CheckpointError
from loosestep.runtime.checkpoint import disk

TOUCHES = ("write", "move", "settle", "make_folder", "remove", "remove_folder")
MAY_REFUSE = TOUCHES[:-1]


class Killed(BaseException):
    """The process has ended here: nothing of it catches this."""


def half_written(path: Path, content: bytes) -> None:
    path.write_bytes(content[: len(content) // 2])


def half_removed(path: Path) -> None:
    for file in sorted(path.iterdir())[::2]:
        file.unlink()


HALVES: dict[str, Callable[..., None]] = {"write": half_written, "remove_folder": half_removed}
"""What is done before the end comes in the middle."""


class Disk:
    """Counts touches, and lets `fatal` be the last or refuses it."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, fatal: int, error: BaseException, half: bool = False
    ) -> None:
        self.count, self.fatal, self.error, self.half = 0, fatal, error, half
        for name in TOUCHES if isinstance(error, Killed) else MAY_REFUSE:
            monkeypatch.setattr(disk, name, self.counted(name, getattr(disk, name)))

    def counted(self, name: str, function: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            self.count += 1
            if self.count == self.fatal:
                if self.half:
                    HALVES.get(name, function)(*arguments)
                raise self.error
            function(*arguments)

        return call


def touches(tmp_path: Path, error: BaseException, **options: Any) -> int:
    with pytest.MonkeyPatch.context() as patch:
        counting = Disk(patch, 0, error)
        go(tmp_path / "counted", **options)
    return counting.count


@pytest.mark.parametrize(
    ("strategy", "keep", "half"),
    [
        *((STRATEGIES[0], keep, half) for keep in (1, 2) for half in (False, True)),
        (STRATEGIES[1], 2, True),
        (STRATEGIES[2], 1, True),
    ],
)
def test_killed_at_every_touch_of_the_disk(strategy: ls.Strategy, keep: int, half: bool, tmp_path: Path) -> None:
    options: dict[str, Any] = {"strategy": strategy, "keep": keep, "steps": 12}
    whole = go(tmp_path / "whole", **options)
    count = touches(tmp_path, Killed(), **options)
    assert count > 60
    for fatal in range(1, count + 1):
        folder = tmp_path / str(fatal)
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, fatal, Killed(), half)
            with pytest.raises(Killed):
                go(folder, **options)
        assert same(go(folder, resume=True, **options), whole), fatal
        assert len(list(folder.glob("step-*"))) <= keep
        shutil.rmtree(folder)


@pytest.mark.parametrize(("strategy", "keep"), [(STRATEGIES[0], 1), (STRATEGIES[0], 2), (STRATEGIES[1], 2)])
def test_refused_at_every_touch_of_the_disk(strategy: ls.Strategy, keep: int, tmp_path: Path) -> None:
    """What a disk refuses is said in a sentence, and the checkpoint before stays."""
    options: dict[str, Any] = {"strategy": strategy, "keep": keep, "steps": 12}
    whole = go(tmp_path / "whole", **options)
    error = OSError(28, "No space left on device")
    said = []
    for fatal in range(1, touches(tmp_path, error, **options) + 1):
        folder = tmp_path / str(fatal)
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, fatal, error)
            try:
                assert same(go(folder, **options), whole)
            except CheckpointError as refused:
                said.append(str(refused))
        assert same(go(folder, resume=True, **options), whole), fatal
        shutil.rmtree(folder)
    assert len(said) > 40
    for sentence in said:
        assert re.search(r"^cannot write .*: No space left on device; (the previous ch|nothing was tr)", sentence)


def test_what_cannot_be_removed_stays_and_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("shutil.rmtree", refuse)
    go(tmp_path / "run", steps=12, keep=1)
    told = capsys.readouterr().err
    assert re.match(r"cannot remove \S+/step-000000004: Operation not permitted; it is no longer needed\n", told)
    assert not (tmp_path / "run" / "step-000000004" / "manifest.json").exists()
    monkeypatch.undo()
    assert same(go(tmp_path / "run", resume=True, steps=12), go(tmp_path / "whole", steps=12))
