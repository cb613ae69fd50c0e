"""Processes that `os.fork` made of a worker's: they have copies of its objects, and no part in its run."""

from __future__ import annotations

import os
import sys
import traceback
from typing import NoReturn


class Original:
    """The process that made this object; any other process that holds it is a forked copy."""

    def __init__(self) -> None:
        self.pid = os.getpid()

    @property
    def here(self) -> bool:
        """Whether this process is the original."""
        return os.getpid() == self.pid

    def require(self, rank: int) -> None:
        """Raise RuntimeError in a copy that goes on as if it were that worker."""
        if not self.here:
            raise RuntimeError(
                f"process {os.getpid()} is a copy (os.fork) of that of worker {rank}, and takes no part in its "
                "run: end it by os._exit"
            )


def end_copy(cause: BaseException) -> NoReturn:
    """End a copy, of which only the thread that forked is left, with the exit code of what it raised."""
    code = getattr(cause, "code", 1)
    if not isinstance(cause, SystemExit):
        traceback.print_exception(cause)
    elif not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)
