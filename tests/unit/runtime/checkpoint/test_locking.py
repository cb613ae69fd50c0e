"""Within a process who holds a lock is counted; what another process says of it is read from the file."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from loosestep.foundation.errors import CheckpointError
from loosestep.runtime.checkpoint import locking


@pytest.fixture(autouse=True)
def no_other_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without the locks that other tests of this process hold."""
    monkeypatch.setattr(locking, "held", {})


def test_one_run_at_a_time_and_its_key_lets_go(tmp_path: Path) -> None:
    key = locking.take(tmp_path, alone=True)
    with pytest.raises(
        CheckpointError, match=rf"^{tmp_path} is written by another run of this process: use another"
    ):
        locking.take(tmp_path, alone=True)
    locking.release(key)
    locking.release(locking.take(tmp_path, alone=True))
    assert locking.held == {}


def test_optimizers_of_one_script_hold_it_together(tmp_path: Path) -> None:
    keys = [locking.take(tmp_path, alone=False) for _ in range(2)]
    locking.release(keys[0])
    assert len(locking.held) == 1
    keys.append(locking.take(tmp_path, alone=True))
    with pytest.raises(CheckpointError, match="another run of this process"):
        locking.take(tmp_path, alone=True)
    for key in keys[1:]:
        locking.release(key)
    assert locking.held == {}


def test_a_folder_is_one_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    key = locking.take(tmp_path, alone=True)
    with pytest.raises(CheckpointError, match="another run of this process"):
        locking.take(tmp_path / "link" / ".", alone=True)
    locking.release(key)


def test_the_file_says_who_holds_it(tmp_path: Path) -> None:
    key = locking.take(tmp_path, alone=True)
    about = json.loads((tmp_path / "lock").read_text())
    locking.release(key)
    assert set(about) == {"process", "host", "since"}
    assert about["process"] == os.getpid()


def lock_that_raises(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def lockf(descriptor: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locking.fcntl, "lockf", lockf)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EAGAIN])
@pytest.mark.parametrize(
    ("content", "told"),
    [('{"process": 41, "host": "far", "since": "now"}', ", process 41 on far since now"), ("", ""), ("[]", "")],
)
def test_another_job_is_named(
    number: int, content: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lock").write_text(content)
    lock_that_raises(number, monkeypatch)
    with pytest.raises(CheckpointError) as error:
        locking.take(tmp_path, alone=True)
    assert str(error.value) == (
        f"{tmp_path} is written by another job{told}: wait for its end, or use another folder"
    )
    assert (tmp_path / "lock").read_text() == content
    assert locking.held == {}


def test_a_disk_without_locks_is_told_of_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lock_that_raises(errno.ENOLCK, monkeypatch)
    locking.release(locking.take(tmp_path, alone=True))
    assert (
        "cannot be locked (No locks available): see to it that no other job writes there"
        in capsys.readouterr().err
    )


def test_a_forked_copy_lets_go_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = locking.take(tmp_path, alone=True)
    with monkeypatch.context() as patch:
        patch.setattr("os.getpid", lambda: 41)
        locking.release(key)
    held: Any = locking.held[key]
    assert held.holders == 1
    os.fstat(held.descriptor)
    locking.release(key)
    assert locking.held == {}
