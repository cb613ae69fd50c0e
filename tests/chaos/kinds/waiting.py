"""A rank does not come: it computes, sleeps, is held by native code, or waits for itself."""

from __future__ import annotations

import ctypes
import threading
import time
from typing import Any, NoReturn

from tests.chaos.kind import FAILS, SURVIVES, in_rank

LONG = 10_000  # seconds


@in_rank(FAILS, within=35)
def computes_for_ever(place: Any) -> NoReturn:
    while True:
        pass


@in_rank(FAILS, within=35)
def sleeps_for_ever(place: Any) -> None:
    time.sleep(LONG)


@in_rank(FAILS, within=35)
def waits_for_itself(place: Any) -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


@in_rank(FAILS, within=60)
def holds_its_interpreter(place: Any) -> None:
    """Native code that does not give Python back: it cannot even hear that the others have gone."""
    ctypes.PyDLL(None).sleep(LONG)


@in_rank(SURVIVES, within=60)
def is_late(place: Any) -> None:
    """Within the deadline."""
    time.sleep(4 + 3 * place.random.random())
