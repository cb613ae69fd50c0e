"""A rank fails, or is late, before its run has begun: before MPI knows it, or after."""

from __future__ import annotations

import os
import sys
import time
from signal import SIGKILL
from typing import Any, NoReturn

from tests.chaos.kind import FAILS, JOINED, START, SURVIVES, in_rank

SOON = 20.0  # seconds: nobody waits for who has failed


@in_rank(FAILS, START, codes=(1,), within=SOON)
def raises_before_mpi(place: Any) -> NoReturn:
    raise FileNotFoundError("there is no data for this rank")


@in_rank(FAILS, START, codes=(3,), within=SOON)
def exits_before_mpi(place: Any) -> NoReturn:
    sys.exit(3)


@in_rank(FAILS, START, codes=(137,), within=SOON)
def is_killed_before_mpi(place: Any) -> None:
    os.kill(os.getpid(), SIGKILL)


@in_rank(FAILS, START, named=False, within=SOON)
def guard_is_killed_before_mpi(place: Any) -> None:
    """The rank goes with it."""
    os.kill(os.getppid(), SIGKILL)
    time.sleep(SOON)


@in_rank(FAILS, JOINED, codes=(1,), within=SOON)
def raises_before_its_run(place: Any) -> NoReturn:
    """It has asked for its rank."""
    raise FileNotFoundError("there is no data for this rank")


@in_rank(FAILS, JOINED, codes=(3,), within=SOON)
def exits_before_its_run(place: Any) -> NoReturn:
    sys.exit(3)


@in_rank(FAILS, JOINED, codes=(137,), within=SOON)
def is_killed_before_its_run(place: Any) -> None:
    os.kill(os.getpid(), SIGKILL)


@in_rank(SURVIVES, START)
def is_late_for_mpi(place: Any) -> None:
    time.sleep(place.random.uniform(3, 9))


@in_rank(SURVIVES, JOINED)
def is_late_for_its_run(place: Any) -> None:
    time.sleep(place.random.uniform(3, 9))


@in_rank(SURVIVES, JOINED, settings={"deadline": 200.0}, within=120)
def is_very_late_for_its_run(place: Any) -> None:
    """It prepares its data for more than a minute, within the deadline."""
    time.sleep(70)
