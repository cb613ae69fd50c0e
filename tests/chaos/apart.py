"""A function in a copy of this process, which may end as it likes."""

from __future__ import annotations

import os
from collections.abc import Callable

SAID = 1 << 16  # bytes that a copy may say


def apart(function: Callable[[], object]) -> tuple[int, str]:
    """The exit code of the copy, and what the function returned there, or its error: of one thread."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.write(writing, f"{function()}".encode()[:SAID])
            code = 0
        except BaseException as error:  # the copy ends here, whatever came
            os.write(writing, f"{type(error).__name__}: {error}".encode(errors="replace")[:SAID])
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        text = said.read().decode(errors="replace")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text
