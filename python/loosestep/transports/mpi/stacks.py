"""Where the threads of this process are: what a late worker tells those who wait for it."""

from __future__ import annotations

import sys
import threading
import traceback

DEEPEST = 30  # frames of a thread, from the innermost


def line() -> str:
    """Where the main thread is."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""


def stacks() -> str:
    """The Python stacks of all threads but the one that asks, the main thread last, its innermost call last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    main, me = threading.main_thread().ident, threading.get_ident()
    frames = sorted(sys._current_frames().items(), key=lambda found: found[0] == main)
    told = [
        f"thread {names.get(ident, ident)}:\n" + "".join(traceback.format_stack(frame)[-DEEPEST:])
        for ident, frame in frames
        if ident != me or ident == main
    ]
    return "".join(told).rstrip()
