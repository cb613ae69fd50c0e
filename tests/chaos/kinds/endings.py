"""A rank ends, in every way in which a program of Python can."""

from __future__ import annotations

import _thread
import ctypes
import os
import sys
from typing import Any, NoReturn

from tests.chaos.kind import EITHER, FAILS, STOPS, SURVIVES, in_rank


class Odd(Exception):
    """An error of the user's own."""


@in_rank(FAILS, codes=(1,))
def raises(place: Any) -> NoReturn:
    raise Odd("by the user's gradient")


@in_rank(FAILS, codes=(1,))
def raises_past_a_hook_of_its_own(place: Any) -> NoReturn:
    sys.excepthook = lambda *_: print("a hook of its own", file=sys.stderr, flush=True)
    raise Odd("with a hook of its own")


@in_rank(FAILS, codes=(1,))
def recurses_without_end(place: Any) -> None:
    recurses_without_end.act(place)


@in_rank(FAILS, codes=(1, 3))
def sys_exit_3(place: Any) -> NoReturn:
    sys.exit(3)


@in_rank(FAILS)
def sys_exit_0(place: Any) -> NoReturn:
    """The job has not finished: whatever the rank says of itself, its exit code is not 0."""
    sys.exit(0)


@in_rank(FAILS, codes=(3,))
def os_exit_3(place: Any) -> NoReturn:
    os._exit(3)


@in_rank(FAILS)
def os_exit_0(place: Any) -> NoReturn:
    """As sys_exit_0, and nobody can speak any more."""
    os._exit(0)


@in_rank(FAILS, codes=(139,))
def reads_address_0(place: Any) -> None:
    ctypes.string_at(8)


@in_rank(FAILS, codes=(134,))
def aborts(place: Any) -> NoReturn:
    os.abort()


@in_rank(STOPS)
def keyboard_interrupt(place: Any) -> NoReturn:
    raise KeyboardInterrupt


@in_rank(STOPS)
def interrupts_its_main_thread(place: Any) -> None:
    _thread.interrupt_main()


@in_rank(SURVIVES)
def thread_raises(place: Any) -> None:
    """A thread of the user's that fails is the user's business."""
    import threading

    def fail() -> NoReturn:
        raise Odd("in a thread")

    threading.Thread(target=fail).start()


@in_rank(SURVIVES)
def goes_to_another_folder(place: Any) -> None:
    os.chdir("/")


@in_rank(SURVIVES, loops=("threads",), resumes=False)
def interpreter_ends_while_a_run_goes_on(place: Any) -> None:
    """See `job.forgotten`: a daemon thread runs on threads when the interpreter ends."""


@in_rank(EITHER)
def forgets_its_environment(place: Any) -> None:
    os.environ.clear()
