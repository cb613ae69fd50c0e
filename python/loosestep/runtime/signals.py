"""Signals that end a run in good order: Ctrl-C, and SIGTERM as schedulers send it."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from loosestep.transports.forks import Original

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


@contextmanager
def interruptible(first: Callable[[int], None]) -> Iterator[None]:
    """Call `first` with the number of the first signal, in the main thread; a second signal ends the program.

    SIGTERM is left alone where the program has a handler of its own, and SIGINT where its handler is not Python's,
    as in a program that embeds Python. A forked copy ends at the first.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    original, before = Original(), {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if before[signal.SIGTERM] is not signal.SIG_DFL:
        del before[signal.SIGTERM]
    if before[signal.SIGINT] is None:  # a handler that is not Python's, which Python could not set again
        del before[signal.SIGINT]
    asked: list[int] = []

    def heed(number: int, frame: FrameType | None) -> None:
        if original.here and not asked:
            asked.append(number)
            first(number)
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    for number in before:
        signal.signal(number, heed)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
