"""How a script ends, where neither `with optimizer:` nor close() said so: well, or with an exit code."""

from __future__ import annotations

import atexit
import builtins
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable

PLACES = ((sys, "exit"), (builtins, "exit"), (builtins, "quit"))


def well(code: object) -> bool:
    """Return whether an exit with that code is no failure."""
    return code is None or (isinstance(code, int) and code == 0)


class Exit(SystemExit):
    """What sys.exit() raises in a script: the interpreter that asks for its code is about to end with it."""

    def __init__(self, code: object) -> None:
        super().__init__(code)
        self._code = code

    @property
    def code(self) -> Any:  # type: ignore[override]
        if sys._getframe().f_back is None:  # no code of Python's asks, so nobody has caught it
            Ending.code = self._code
        return self._code


class Ending:
    """Closes a parallel() when the script ends, and knows by which exit code that was.

    While one is open sys.exit(), exit() and quit() in the main thread raise `Exit`. `raise SystemExit(3)` is seen
    in `with optimizer:` alone.
    """

    code: object = None  # of sys.exit(), when the interpreter ends by it
    told: int | None = None  # what this process ends with, since the others were told so
    open: ClassVar[list[Ending]] = []  # all that are, in this process
    before: ClassVar[list[Any]] = []  # what was at PLACES

    def __init__(self, at_exit: Callable[[], None]) -> None:
        self.at_exit, self.process = at_exit, os.getpid()
        if not self.open:
            self.before[:] = [getattr(place, name, None) for place, name in PLACES]
            put([function and leave for function in self.before])
        self.open.append(self)
        atexit.unregister(last)
        atexit.register(last)  # comes before MPI's end, which was registered when this process joined the others
        atexit.register(self.end)

    def end(self) -> None:
        """The script has ended; an error here must not end with exit code 0."""
        if os.getpid() != self.process:  # a forked one is not the worker
            return
        try:
            self.at_exit()
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
            os._exit(1)

    def close(self) -> None:
        """Nothing is left to be told."""
        atexit.unregister(self.end)
        if self in self.open:
            self.open.remove(self)
            if not self.open and sys.exit is leave:
                put(self.before)


def put(functions: list[Any]) -> None:
    for (place, name), function in zip(PLACES, functions, strict=True):
        if function is not None:
            setattr(place, name, function)


def leave(code: object = None) -> None:
    """As sys.exit does."""
    at_home = threading.current_thread() is threading.main_thread() and Ending.open[-1:]
    raise (Exit if at_home and Ending.open[-1].process == os.getpid() else SystemExit)(code)


def fail(code: object) -> None:
    """From now on this process ends with that code, however it ends: the others know it."""
    Ending.told = code & 0xFF if isinstance(code, int) else 1


def last() -> None:
    """End with that code at once: MPI's own end would wait for the others."""
    if Ending.told is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(Ending.told)
