"""Where the threads of this process are: what a late worker reports to those that wait for it."""

from __future__ import annotations

import sys
import threading
import traceback

DEEPEST = 30  # frames of a thread, from the innermost


def line() -> str:
    """Return the file and line where the main thread is."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""


def stacks() -> str:
    """Return the Python stacks of all threads but the calling one, the main thread last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    main, me = threading.main_thread().ident, threading.get_ident()
    frames = sorted(sys._current_frames().items(), key=lambda found: found[0] == main)
    parts = [
        f"thread {names.get(ident, ident)}:\n" + "".join(traceback.format_stack(frame)[-DEEPEST:])
        for ident, frame in frames
        if ident != me or ident == main
    ]
    return "".join(parts).rstrip()
