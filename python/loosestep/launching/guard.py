"""Guards one rank: `python guard.py die|tell PROGRAM ...`, run by mpiexec in a rank's place.

It ends the program when mpiexec goes, passes signals on, says on standard error how the program failed, and exits
with its exit code. Of a program that a signal killed, `die` makes a guard that SIGKILL killed, so that Open MPI
tells the other ranks; `tell` makes the exit code 128 + signal.

It is a script of its own, without imports of this package, so that it costs a rank 15 ms and 8 MB.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress

PR_SET_PDEATHSIG = 1
MEANT = {signal.SIGURG: signal.SIGINT, signal.SIGWINCH: signal.SIGTERM}  # as the launcher's `passes` say
PASSED = (signal.SIGINT, signal.SIGTERM, signal.SIGURG, signal.SIGWINCH, signal.SIGUSR1, signal.SIGUSR2)
LAST_WORDS = 1.5  # seconds: mpiexec ends all ranks at the first exit code but 0, and they have yet to say why
RANKS = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")


def die_with(parent: int) -> None:
    """The kernel kills this process when its parent is gone (Linux; the parent may be gone already)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def start(program: list[str]) -> int:
    """The program in a child with a process group of its own: a signal to ours reaches it once, from us."""
    guard = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        os.setpgid(0, 0)
        die_with(guard)
        os.execvp(program[0], program)
    except OSError as error:
        os.write(2, f"loosestep run: cannot start {program[0]}: {error}\n".encode())
    os._exit(127)


def pass_on(child: int) -> set[int]:
    """Hand signals to the child; the set grows by those handed on."""
    handed: set[int] = set()

    def handle(number: int, _: object) -> None:
        meant = MEANT.get(signal.Signals(number), number)
        handed.add(int(meant))
        with suppress(ProcessLookupError):  # it has just ended, which is about to be noticed
            os.kill(child, meant)

    for number in PASSED:
        signal.signal(number, handle)
    return handed


def told(code: int, child: int) -> str:
    """One line: who failed, where, how."""
    rank = next((os.environ[name] for name in RANKS if name in os.environ), "?")
    how = f"ended with exit code {code}"
    if code < 0:
        how = f"was killed by signal {-code} ({signal.strsignal(-code)})"
    return f"loosestep run: rank {rank} on {os.uname().nodename} (process {child}) {how}\n"


def main() -> None:
    die_with(os.getppid())
    end, *program = sys.argv[1:]
    child = start(program)
    handed = pass_on(child)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for number in PASSED:
        signal.signal(number, signal.SIG_DFL)
    if code and -code not in handed:
        os.write(2, told(code, child).encode())
    if code > 0:
        time.sleep(LAST_WORDS)
    if code < 0 and end == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
