"""A rank has no more memory, files, or outputs; its clock jumps; a number is not finite."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.chaos.kind import EITHER, FAILS, SURVIVES, in_rank, outside

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY = 86_400.0


@in_rank(FAILS, codes=(1,))
def asks_for_an_exabyte(place: Any) -> None:
    bytearray(1 << 60)


@in_rank(FAILS, codes=(1,))
def has_little_memory(place: Any) -> None:
    """As much as `ulimit -v` allows."""
    import numpy as np

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
    kept = [np.ones(1 << 20) for _ in range(1000)]
    raise AssertionError(f"there is no limit to {len(kept)} blocks")


@in_rank(EITHER)
def has_no_more_files(place: Any) -> None:
    """As many as are open: a checkpoint cannot be written."""
    first_free = os.open("/dev/null", os.O_RDONLY)
    os.close(first_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first_free, first_free))


@in_rank(SURVIVES)
def clock_jumps(place: Any) -> None:
    """The time of day does, back and forth; nothing may hang on it."""
    true, jump = time.time, place.random.choice((-400 * DAY, -DAY, -3600.0, 3600.0, DAY, 400 * DAY))
    time.time = lambda: true() + jump * place.random.random()


@in_rank(FAILS, settings={"loss": False}, codes=(1,))
def one_gradient_is_not_finite(place: Any) -> None:
    """No loss shows it: the run says so all the same, and keeps the checkpoint that was good."""
    place.spoilt = True


@in_rank(SURVIVES)
def closes_its_output(place: Any) -> None:
    os.close(1)


@in_rank(SURVIVES)
def closes_its_errors(place: Any) -> None:
    os.close(2)


@in_rank(SURVIVES)
def writes_a_lot(place: Any) -> None:
    """More than any pipe holds, to both outputs, without an end of line now and then."""
    for _ in range(200):
        os.write(1, b"o" * 20_000 + b"\n")
        os.write(2, b"e" * 20_000)
    os.write(2, b"\n")


@outside(EITHER, unread=True)
def reader_of_output_goes(trial: Any) -> None:
    """`loosestep run ... | head`."""
    trial.job.close("out")


@outside(EITHER, unread=True)
def readers_of_outputs_go(trial: Any) -> None:
    """A terminal that is closed."""
    trial.job.close("out", "err")


@contextmanager
def small(folder: str, size: str) -> Iterator[None]:
    """A file system that is full at once, in place of a folder."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@outside(EITHER, around=lambda trial: small("/dev/shm", "64k"))
def shared_memory_is_full(trial: Any) -> None:
    """From the beginning."""


@outside(EITHER, around=lambda trial: small(str(trial.tmp), "16k"))
def temporary_folder_is_full(trial: Any) -> None:
    """From the beginning."""
