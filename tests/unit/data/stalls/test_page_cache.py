"""Files in the page cache: found, dropped, looked at. What a file system cannot say is not guessed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from loosestep.data.stalls import page_cache
from loosestep.data.stalls.page_cache import PageCache


def test_folders_are_searched_and_each_file_counts_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"12345")
    (tmp_path / "y").write_bytes(b"123")
    (tmp_path / "link").symlink_to(tmp_path / "y")
    pages = PageCache([tmp_path, tmp_path / "y", str(tmp_path / "a" / "x")])
    assert [file.name for file in pages.files] == ["x", "y"]
    assert pages.bytes == 8


def test_dropping_and_filling_keep_the_content(tmp_path: Path) -> None:
    file = tmp_path / "rows"
    content = os.urandom(50_000)
    file.write_bytes(content)
    pages = PageCache([file])
    pages.drop()
    pages.fill()
    assert file.read_bytes() == content
    assert pages.resident() == 1.0


def test_files_that_memory_cannot_hold_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows").write_bytes(b"1" * 100)
    monkeypatch.setattr(page_cache, "free_memory", lambda: 150.0)
    pages = PageCache([tmp_path])
    monkeypatch.setattr(page_cache.os, "read", None)
    pages.fill()


def test_files_that_stay_in_memory_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows").write_bytes(b"1" * 100)
    pages = PageCache([tmp_path])
    monkeypatch.setattr(page_cache, "_in_memory", lambda fd: (3, 3))
    assert pages.complaint().startswith("100% of the files stayed in memory")
    monkeypatch.setattr(page_cache, "_in_memory", lambda fd: (0, 3))
    assert pages.resident() == 0.0
    assert pages.complaint() == ""
    monkeypatch.setattr(page_cache, "_in_memory", lambda fd: (0, 0))
    assert pages.resident() is None
    assert pages.complaint() == ""


def test_files_of_others_are_not_guessed_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows").write_bytes(b"1" * 100)
    pages = PageCache([tmp_path])
    monkeypatch.setattr(page_cache.os, "geteuid", lambda: -1)
    assert pages.resident() == 1.0  # it may be written
    monkeypatch.setattr(page_cache.os, "access", lambda path, mode: False)
    assert pages.resident() is None


def test_looking_brings_nothing_back(tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(os.urandom(1_000_000))
    pages = PageCache([tmp_path])
    pages.drop()
    assert pages.resident() == pages.resident()
    pages.fill()
    assert pages.resident() == 1.0


def test_a_file_system_in_memory_is_seen() -> None:
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        file.write(bytes(10_000))
        file.flush()
        pages = PageCache([file.name])
        pages.drop()
        assert pages.complaint().startswith("100% of the files stayed in memory")


def test_an_empty_file_has_no_pages(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert PageCache([tmp_path]).resident() is None


def test_memory_is_known_here() -> None:
    assert 1e6 < page_cache.free_memory() < 1e15
