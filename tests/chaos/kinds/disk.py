"""The folder of checkpoints: full, gone, refused, another's; and the death of a rank at any touch of it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from contextlib import contextmanager, suppress
from signal import SIGKILL
from typing import TYPE_CHECKING, Any

from tests.chaos.kind import EITHER, FAILS, START, SURVIVES, in_rank, outside
from tests.chaos.touches import dying, refusing, torn, watch

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY = 40  # touches of the disk by a rank in a whole job, about


# --- a touch of the disk -----------------------------------------------------------------------------------


def die() -> None:
    os.kill(os.getpid(), SIGKILL)


@in_rank(EITHER, START, within=90)
def dies_at_a_touch_of_the_disk(place: Any) -> None:
    watch(place.folder, dying(place.random.randrange(1, MANY), die))


@in_rank(EITHER, START, within=90)
def tears_a_file_and_dies(place: Any) -> None:
    watch(place.folder, torn(place.random.randrange(1, MANY), die))


@in_rank(EITHER, START, within=90)
def disk_refuses_once(place: Any) -> None:
    number = place.random.choice((errno.ENOSPC, errno.EIO, errno.EDQUOT))
    watch(place.folder, refusing(place.random.randrange(1, MANY), number))


@in_rank(SURVIVES, loops=("torch",), settings={"catches": True})
def save_fails_on_one_rank_and_is_caught(place: Any) -> None:
    """All ranks are told, all catch it, and the next save is as good as any."""
    watch(place.folder, refusing(1, errno.ENOSPC))


# --- the folder --------------------------------------------------------------------------------------------


@contextmanager
def mounted(trial: Any, size: int) -> Iterator[None]:
    """A file system of so many KiB where the checkpoints go, which grows before the run is resumed."""
    trial.folder.mkdir()
    where = str(trial.folder)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", where], check=True)
    yield
    subprocess.run(["mount", "-o", "remount,rw,size=1g", where], check=True)


@contextmanager
def small_disk(trial: Any) -> Iterator[None]:
    """One on which there is room for no checkpoint, for one, or hardly for two."""
    whole = trial.spec.ranks * 1600
    with mounted(trial, trial.random.choice((100, whole + 800, whole * 2 - 700, whole * 2 + 500))):
        yield


@outside(EITHER, loops=("library",), settings={"width": 100_000}, around=small_disk)
def disk_is_full(trial: Any) -> None:
    """From the beginning, or when the second checkpoint comes."""


@outside(EITHER, around=lambda trial: mounted(trial, 100_000))
def folder_becomes_read_only(trial: Any) -> None:
    """As ext4 does after an error: the next checkpoint says so."""
    subprocess.run(["mount", "-o", "remount,ro", str(trial.folder)], check=False, capture_output=True)


@outside(EITHER)
def folder_is_removed(trial: Any) -> None:
    shutil.rmtree(trial.folder, ignore_errors=True)


@outside(EITHER)
def folder_is_renamed(trial: Any) -> None:
    """While a part is written there, perhaps."""
    with suppress(OSError):  # there is none yet
        trial.folder.rename(trial.base / "renamed")


@contextmanager
def file_goes(trial: Any) -> Iterator[None]:
    """The user mends it before the run is resumed."""
    yield
    if trial.folder.is_file():
        trial.folder.unlink()


@outside(FAILS, around=file_goes, named=False)
def folder_is_replaced_by_a_file(trial: Any) -> None:
    shutil.rmtree(trial.folder, ignore_errors=True)
    trial.replace_by_file(trial.folder)


@outside(EITHER)
def part_of_a_checkpoint_is_renamed(trial: Any) -> None:
    """By somebody who tidies up: what is written next does not need it."""
    for part in sorted(trial.folder.glob("*/*"))[:1]:
        with suppress(OSError):  # it has just been replaced
            part.rename(part.with_name(f"old {part.name}"))


@outside(EITHER)
def manifest_is_removed(trial: Any) -> None:
    (trial.folder / "manifest.json").unlink(missing_ok=True)


@outside(SURVIVES, within=90, settings={"steps": 2000})  # it goes on while the second begins
def second_job_in_its_folder(trial: Any) -> None:
    """It is refused in a sentence, and the first goes on."""
    second = trial.start_another()
    code = second.end(60)
    if not code:
        trial.wrong(f"a second job in the same folder ended with {code}, not with a refusal")
    elif "Traceback" in second.err and str(trial.folder) not in second.err:
        trial.wrong(f"a second job in the same folder was not refused in a sentence: {second.err[-500:]}")
