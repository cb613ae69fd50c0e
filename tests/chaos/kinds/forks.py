"""Copies and children of a rank: they end in it, or outlive it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from tests.chaos.kind import SURVIVES, in_rank


class Odd(Exception):
    """An error of the user's own, in a copy."""


@in_rank(SURVIVES)
def copy_exits(place: Any) -> None:
    """Python's end of the copy runs what the rank registered for its own."""
    if os.fork() == 0:
        sys.exit(0)


@in_rank(SURVIVES)
def copy_raises(place: Any) -> None:
    """Through the run, of which the copy has no part."""
    if os.fork() == 0:
        raise Odd("in a copy")


@in_rank(SURVIVES)
def copy_ends_at_once(place: Any) -> None:
    """As multiprocessing and data loaders end theirs."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


@in_rank(SURVIVES)
def helper_is_left_over(place: Any) -> None:
    """A service that the rank started, and that holds its outputs."""
    subprocess.Popen(["sleep", "300"])


@in_rank(SURVIVES)
def pool_computes(place: Any) -> None:
    """A process pool of the user's."""
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(abs, [-3]) == [3]
