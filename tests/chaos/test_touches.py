"""Every touch of the disk below a folder is seen, and no other."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.chaos.apart import apart
from tests.chaos.touches import dying, refusing, torn, watch


def write(folder: Path) -> None:
    """Five touches: made, opened, synced, renamed, removed; and two that are none, a reading and one elsewhere."""
    inner = folder / "inner"
    inner.mkdir()
    with (inner / "draft").open("wb") as file:
        file.write(b"0123456789")
        file.flush()
        os.fsync(file.fileno())
    (inner / "draft").replace(inner / "whole")
    assert (inner / "whole").read_bytes() == b"0123456789"
    (folder.parent / "elsewhere").write_text("no touch")
    (inner / "whole").unlink()


def seen(folder: Path) -> str:
    touches: list[str] = []
    watch(folder, lambda count, what, file: touches.append(what.split()[0]))
    write(folder)
    return " ".join(touches)


def acted(folder: Path, act: Callable[[int, str, int], None]) -> None:
    watch(folder, act)
    write(folder)


def test_touches_are_seen_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    assert apart(partial(seen, folder)) == (0, "os.mkdir open fsync os.rename os.remove")


def test_a_removed_tree_is_seen_file_by_file(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file").touch()

    def remove() -> int:
        touches: list[str] = []
        watch(folder, lambda count, what, file: touches.append(what))
        shutil.rmtree(folder / "inner")
        return len(touches)

    assert apart(remove) == (0, "2")


def test_a_process_dies_at_the_touch_that_was_meant(tmp_path: Path) -> None:
    found = []
    for at in range(1, 7):
        folder = tmp_path / str(at)
        folder.mkdir()
        code, _ = apart(partial(acted, folder, dying(at, partial(os._exit, 41))))
        found.append((code, sorted(file.name for file in folder.rglob("*"))))
    draft, whole = ["draft", "inner"], ["inner", "whole"]
    assert found == [(41, []), (41, ["inner"]), (41, draft), (41, draft), (41, whole), (0, ["inner"])]


def test_a_torn_file_has_lost_its_second_half(tmp_path: Path) -> None:
    assert apart(partial(acted, tmp_path, torn(3, partial(os._exit, 41))))[0] == 41
    assert (tmp_path / "inner" / "draft").read_bytes() == b"01234"


def test_a_touch_is_refused_with_the_error_that_was_meant(tmp_path: Path) -> None:
    assert apart(partial(acted, tmp_path, refusing(4, 28))) == (1, "OSError: [Errno 28] No space left on device")
    assert (tmp_path / "inner" / "draft").read_bytes() == b"0123456789"
