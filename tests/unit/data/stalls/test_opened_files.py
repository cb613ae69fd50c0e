"""Which files count as data, and what is recorded of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loosestep.data.stalls.opened_files import OpenedFiles, inherited, is_data


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenedFiles]:
    monkeypatch.setattr(sys, "addaudithook", lambda hook: None)  # hooks stay to the end of the process
    recording = OpenedFiles()
    yield recording
    recording.close()


def test_what_was_opened_for_reading_is_recorded_once(opened: OpenedFiles, tmp_path: Path) -> None:
    for name in ("rows", "other", "code.py"):
        (tmp_path / name).touch()
    for path in (tmp_path / "rows", tmp_path / "rows", tmp_path / "code.py", tmp_path / "gone", "/proc/meminfo"):
        opened.note("open", (str(path), "r", os.O_RDONLY))
    opened.note("open", (str(tmp_path / "other"), "w", os.O_WRONLY))
    opened.note("open", (3, "r", os.O_RDONLY))
    opened.note("import", ("rows", None, None, None, None))
    opened.note("open", (os.fsencode(tmp_path / "other"), None, os.O_RDONLY | os.O_CLOEXEC))
    assert opened.paths() == [str(tmp_path / "other"), str(tmp_path / "rows")]


def test_a_record_is_known_by_its_descriptor(opened: OpenedFiles) -> None:
    assert inherited(opened.record)
    with open(os.devnull) as other:
        assert not inherited(other.fileno())
    assert not inherited(987654)


def test_a_worker_does_what_the_script_wanted_too(opened: OpenedFiles) -> None:
    begun: list[int] = []
    opened.in_worker(begun.append)(7)
    opened.in_worker(None)(8)
    assert begun == [7]


def test_folders_are_no_data(tmp_path: Path) -> None:
    assert not is_data(str(tmp_path))
