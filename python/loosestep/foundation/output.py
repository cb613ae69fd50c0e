"""What a process has printed, before it ends without the interpreter's own end."""

from __future__ import annotations

import sys


def flush() -> None:
    """Write out what was printed, also what somebody's hook holds back until the present call returns.

    torch.distributed collects a traceback in memory, to print it behind the rank; an `os._exit` in a hook that it
    calls would lose it.
    """
    held = getattr(sys.stderr, "getvalue", None)
    if held is not None and sys.__stderr__ is not None:
        sys.__stderr__.write(held())
        sys.__stderr__.flush()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
