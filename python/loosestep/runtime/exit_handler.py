"""What closes a parallel(): the end of its `with` block, or of the script where nothing did so before."""

from __future__ import annotations

import atexit
import builtins
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

PLACES = ((sys, "exit"), (builtins, "exit"), (builtins, "quit"))


def is_success(code: object) -> bool:
    """Return whether a process that exits with that code has not failed."""
    return code is None or (isinstance(code, int) and code == 0)


class Exit(SystemExit):
    """What sys.exit() raises in a script: if the interpreter itself reads its code, the process ends with it."""

    def __init__(self, code: object) -> None:
        super().__init__(code)
        self._code = code

    @property
    def code(self) -> Any:  # type: ignore[override]
        if sys._getframe().f_back is None:  # no Python code reads it, so nothing has caught it
            ExitHandler.code = self._code
        return self._code


class ClosedAtEnd:
    """What `close(error)` ends: at the end of its `with` block, or of the script; an exit with 0 is no error."""

    close: Callable[..., None]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(None if isinstance(error, SystemExit) and is_success(error.code) else error)

    def _at_exit(self) -> None:
        """End the data where the script ends, unless its exit code says that it failed."""
        code = ExitHandler.code
        self.close(None if is_success(code) else SystemExit(code))


class ExitHandler:
    """Calls `at_exit` when the script ends, and knows the exit code of sys.exit().

    While one is open sys.exit(), exit() and quit() in the main thread raise `Exit`. `raise SystemExit(3)` is seen
    only inside `with optimizer:`.
    """

    code: object = None  # of sys.exit(), when the interpreter ends by it
    final_code: int | None = None  # what this process must end with, since the others were told so
    open: ClassVar[list[ExitHandler]] = []  # in this process
    replaced: ClassVar[list[Any]] = []  # the functions that were at PLACES

    def __init__(self, at_exit: Callable[[], None]) -> None:
        self.at_exit, self.process = at_exit, os.getpid()
        if not self.open:
            self.replaced[:] = [getattr(place, name, None) for place, name in PLACES]
            install([function and exit_by for function in self.replaced])
        self.open.append(self)
        atexit.unregister(end_all)
        atexit.register(end_all)  # before a wire's end, which was registered earlier and is called later

    def end(self) -> None:
        """Call `at_exit`; after an error there the exit code must not be 0."""
        if os.getpid() != self.process:  # a forked process is not the worker
            return
        try:
            self.at_exit()
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
            os._exit(1)

    def close(self) -> None:
        """Do nothing at the end of the script."""
        if self in self.open:
            self.open.remove(self)
            if not self.open and sys.exit is exit_by:
                install(self.replaced)


def install(functions: list[Any]) -> None:
    """Put functions in the places of sys.exit, exit and quit."""
    for (place, name), function in zip(PLACES, functions, strict=True):
        if function is not None:
            setattr(place, name, function)


def exit_by(code: object = None) -> None:
    """Raise SystemExit as sys.exit does; in the main thread of a worker it is an `Exit`."""
    in_main = threading.current_thread() is threading.main_thread() and ExitHandler.open[-1:]
    raise (Exit if in_main and ExitHandler.open[-1].process == os.getpid() else SystemExit)(code)


def end_with(code: object) -> None:
    """Let this process end with that code, however it ends: the others have been told so."""
    ExitHandler.final_code = code & 0xFF if isinstance(code, int) else 1


def end_all() -> None:
    """End all that are open, the newest first, before the process ends: each has others to tell."""
    for handler in reversed(ExitHandler.open[:]):
        handler.end()
    exit_at_once()


def exit_at_once() -> None:
    """End the process with the code that the others were told, without MPI's end, which would wait for them."""
    if ExitHandler.final_code is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ExitHandler.final_code)
