"""Each touch of the disk by itself: a file holds all of the new or all of the old, and is waited for."""

from __future__ import annotations

import os
from pathlib import Path
from zlib import crc32

import pytest

from loosestep.runtime.checkpoint import disk


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what the disk was asked to have."""
    names: list[str] = []
    monkeypatch.setattr(
        "os.fsync", lambda file: names.append(Path(os.readlink(f"/proc/self/fd/{_number(file)}")).name)
    )
    return names


def _number(file: object) -> int:
    return file if isinstance(file, int) else file.fileno()  # type: ignore[attr-defined, no-any-return]


def test_a_file_is_replaced_in_one_step_behind_its_content(tmp_path: Path, synced: list[str]) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(b"old")
    disk.replace(path, b"new")
    assert path.read_bytes() == b"new"
    assert synced == ["manifest.json.part", tmp_path.name], "the content first, then the name"
    assert [each.name for each in tmp_path.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize("fatal", ["write", "move"])
def test_what_was_there_stays_where_the_new_one_fails(
    fatal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(b"old")

    def refuse(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, fatal, refuse)
    with pytest.raises(OSError, match="No space left"):
        disk.replace(path, b"new")
    assert path.read_bytes() == b"old"


def test_folders_are_made_from_above_and_their_names_are_kept(tmp_path: Path, synced: list[str]) -> None:
    disk.make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert synced == [tmp_path.name, "a"]
    disk.make_folder(tmp_path / "a" / "b")
    assert len(synced) == 2, "what is there is not made again"


@pytest.mark.parametrize("size", [0, 1, disk.CHUNK, 2 * disk.CHUNK + 3])
def test_a_file_is_measured_whole(size: int, tmp_path: Path) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "x").write_bytes(content[:size])
    assert disk.measure(tmp_path / "x") == (size, crc32(content[:size]))
    assert disk.read(tmp_path / "x") == content[:size]


@pytest.mark.parametrize("what", ["folder", "pipe", "device", "nothing"])
def test_what_is_no_file_is_refused(what: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path), "device": lambda: path.symlink_to("/dev/zero"),
     "nothing": lambda: None}[what]()  # fmt: skip
    for look in (disk.read, disk.measure):
        with pytest.raises(OSError, match="x is no file" if what != "nothing" else "No such file"):
            look(path)


def test_removing_what_is_not_there_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk.remove(tmp_path / "x")
    disk.remove_folder(tmp_path / "y")
    assert capsys.readouterr().err == ""


def test_a_folder_that_stays_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").mkdir()

    def refuse(path: Path) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(disk.shutil, "rmtree", refuse)
    disk.remove_folder(tmp_path / "x")
    told = f"cannot remove {tmp_path}/x: Device or resource busy; it is no longer needed\n"
    assert capsys.readouterr().err == told


def test_a_reason_leaves_out_the_path() -> None:
    assert disk.reason(OSError(28, "No space left on device", "/x")) == "No space left on device"
    assert disk.reason(OSError("x is no file")) == "x is no file"
