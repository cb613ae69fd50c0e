"""Guards one rank: `python guard.py die|tell PROGRAM ...`, started by mpiexec in the place of the program.

It ends the program when mpiexec goes, passes signals on, says on standard error how the program failed, and exits
with its exit code. Of a program that a signal killed, `die` makes a guard that SIGKILL killed, so that Open MPI
tells the other ranks; `tell` makes the exit code 128 + signal. Where standard output is a pipe, as under MPICH,
the program gets a terminal instead, so that lines come out one by one and whole. What the program has started and
not ended is ended with it: mpiexec would wait for any process that holds its output.

Its record is a file: the rank writes there that its run has begun, and that it heard of another rank's failure;
the guard that it ends in order, which it does not where it is killed.

It is a script of its own, without imports of this package, so that it costs a rank 15 ms and 8 MB.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import stat
import sys
import time
import tty
from contextlib import suppress

PR_SET_PDEATHSIG = 1
MEANT = {signal.SIGURG: signal.SIGINT, signal.SIGWINCH: signal.SIGTERM}  # as the launcher's `passes` say
PASSED = (signal.SIGINT, signal.SIGTERM, signal.SIGURG, signal.SIGWINCH, signal.SIGUSR1, signal.SIGUSR2)
LOOK = 0.05  # seconds between two looks at whether the program has ended
LAST_WORDS = 1.5  # seconds: mpiexec ends all ranks at the first exit code but 0, and they have yet to say why
FAREWELL = 1.0  # seconds from SIGTERM to SIGKILL for what a program has left behind
RECORDS = "LOOSESTEP_RECORDS"  # the launcher's folder for records, on its own machine
BEGUN = "LOOSESTEP_BEGUN"  # where a rank writes `begun` and `heard`
UNBEGUN = "it had begun no run, so ranks that wait for it at their start do not hear of this"
AFTER = ", after it had heard that another rank failed"
RANKS = ("LOOSESTEP_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")


def die_with(parent: int) -> None:
    """Ask the kernel to kill this process when its parent ends (Linux; the parent may have ended already)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def terminal() -> tuple[int, int]:
    """Return two ends: what is written to the second can be read, unchanged, from the first."""
    near, far = os.openpty()
    tty.setraw(far)
    return near, far


def start(program: list[str], out: int) -> int:
    """Start the program in a process group of its own, so that a signal to ours reaches it once, from us."""
    guard = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        os.dup2(out, 1)
        os.setpgid(0, 0)
        die_with(guard)
        os.execvp(program[0], program)
    except OSError as error:
        os.write(2, f"loosestep run: cannot start {program[0]}: {error}\n".encode())
    os._exit(127)


def copy(child: int, near: int) -> None:
    """Copy the program's output to our standard output by whole lines, until the program has ended."""
    begun, ended = b"", False
    while True:
        text = arrived(near)
        if text:
            *lines, begun = (begun + text).split(b"\n")
            write(1, b"".join(line + b"\n" for line in lines))
            continue
        write(1, begun)  # a line that is not ended, such as a question
        begun = b""
        if ended:
            return
        ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def arrived(near: int) -> bytes:
    """Return what can be read within a moment; nothing after the end, which Linux calls an error."""
    if not select.select([near], [], [], LOOK)[0]:
        return b""
    try:
        return os.read(near, 4096)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        time.sleep(LOOK)
        return b""


def write(file: int, text: bytes) -> None:
    while text:
        text = text[os.write(file, text) :]


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


def rank() -> str:
    """Return the rank that the launcher has given."""
    return next((os.environ[name] for name in RANKS if name in os.environ), "?")


def open_record() -> int:
    """Open this rank's record; on a machine without the launcher's folder it is private to the guard."""
    place = os.path.join(os.environ.get(RECORDS, "/nowhere"), f"rank-{rank()}")
    try:
        record = os.open(place, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    except OSError:
        record = os.memfd_create("record")
        place = f"/proc/{os.getpid()}/fd/{record}"
    os.environ[BEGUN] = place
    return record


def end_group(group: int) -> None:
    """End what the program has left in its process group."""
    until = time.monotonic() + FAREWELL
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < until:
            time.sleep(LOOK)
            os.killpg(group, 0)
        os.killpg(group, signal.SIGKILL)


def told(code: int, child: int, record: bytes) -> str:
    """Return which rank failed, where, how, and whether others that wait for it at their start know of it."""
    how = f"ended with exit code {code}"
    if code < 0:
        how = f"was killed by signal {-code} ({signal.strsignal(-code)})"
    how += AFTER if b"heard" in record else ""
    line = f"loosestep run: rank {rank()} on {os.uname().nodename} (process {child}) {how}\n"
    return line if b"begun" in record else f"{line}loosestep run: {UNBEGUN}\n"


def main() -> None:
    die_with(os.getppid())
    end, *program = sys.argv[1:]
    record = open_record()
    piped = stat.S_ISFIFO(os.fstat(1).st_mode)
    near, far = terminal() if piped else (-1, 1)
    child = start(program, far)
    handed = pass_on(child)
    if piped:
        os.close(far)
        copy(child, near)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for number in PASSED:
        signal.signal(number, signal.SIG_DFL)
    if code and -code not in handed and code - 128 not in handed:
        os.write(2, told(code, child, os.pread(record, 1000, 0)).encode())
    os.write(record, b"ended %d\n" % (code if code >= 0 else 128 - code))
    end_group(child)
    if code > 0:
        time.sleep(LAST_WORDS)
    if code < 0 and end == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
