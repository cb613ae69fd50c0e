"""Starts ranks on this machine: `python starter.py COUNT tag|plain COMMAND ...`, in the place of an mpiexec.

Each rank is the command with LOOSESTEP_RANK in its environment. Signals that `loosestep run` sends for the ranks
are handed on; SIGTERM and SIGINT end all. The exit code is that of the first rank that failed. With `tag` each
line of output begins with its rank.

It is a script of its own, without imports of this package, as the guard is, which each rank runs under.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import suppress

PASSED = (signal.SIGURG, signal.SIGWINCH, signal.SIGUSR1, signal.SIGUSR2)
LOOK = 0.05  # seconds between two looks at whether a rank has ended
FAREWELL = 1.0  # seconds from SIGTERM to SIGKILL
REST = 0.5  # seconds for output that what a rank has left behind may hold back


class Output:
    """What comes from ranks by pipes, written line by line with the rank before it."""

    def __init__(self) -> None:
        self.pipes: dict[
            int, tuple[int, bytes, bytearray]
        ] = {}  # by the end to read: where it goes, mark, line begun

    def pipe(self, file: int, rank: int) -> int:
        """Return the end that a rank writes to in the place of a file of ours."""
        near, far = os.pipe()
        os.set_inheritable(far, True)
        self.pipes[near] = (file, b"[%d] " % rank, bytearray())
        return far

    def copy(self, seconds: float) -> bool:
        """Copy what comes within so many seconds; return whether anything came."""
        if not self.pipes:
            time.sleep(seconds)
            return False
        ready = select.select(list(self.pipes), [], [], seconds)[0]
        for near in ready:
            file, mark, begun = self.pipes[near]
            text = os.read(near, 1 << 16)
            begun += text or (b"\n" if begun else b"")
            *lines, rest = bytes(begun).split(b"\n")
            begun[:] = rest
            write(file, b"".join(mark + line + b"\n" for line in lines))
            if not text:
                del self.pipes[near]
                os.close(near)
        return bool(ready)


def write(file: int, text: bytes) -> None:
    while text:
        text = text[os.write(file, text) :]


def start(command: list[str], rank: int, output: Output | None) -> int:
    """Start a rank; the first one has our standard input."""
    files = {file: output.pipe(file, rank) for file in (1, 2)} if output else {}
    child = os.fork()
    if child:
        for far in files.values():
            os.close(far)
        return child
    try:
        os.environ["LOOSESTEP_RANK"] = str(rank)
        if rank:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for file, far in files.items():
            os.dup2(far, file)
        os.execv(command[0], command)
    except OSError as error:
        os.write(2, f"loosestep run: cannot start {command[0]}: {error}\n".encode())
    os._exit(127)


class Ranks:
    """The ranks that run, and how the first that failed has ended."""

    def __init__(self, command: list[str], count: int, output: Output | None) -> None:
        self.running: set[int] = set()
        self.code = 0
        self.until = float("inf")  # when those that do not heed SIGTERM are killed
        for number in PASSED:
            signal.signal(number, lambda number, _: self.send(number))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.end())
        for rank in range(count):
            self.running.add(start(command, rank, output))

    def send(self, number: int) -> None:
        """Send a signal to every rank."""
        for child in self.running:
            with suppress(ProcessLookupError):
                os.kill(child, number)

    def end(self) -> None:
        """Let all end."""
        self.until = min(self.until, time.monotonic() + FAREWELL)
        self.send(signal.SIGTERM)

    def look(self) -> None:
        """Note which have ended."""
        for child in list(self.running):
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                self.running.discard(child)
                code = os.waitstatus_to_exitcode(status)
                self.code = self.code or (code if code >= 0 else 128 - code)
        if time.monotonic() > self.until:
            self.send(signal.SIGKILL)


def main() -> None:
    count, tag, *command = sys.argv[1:]
    output = Output() if tag == "tag" else None
    ranks = Ranks(command, int(count), output)
    while ranks.running:
        if output is None:
            time.sleep(LOOK)
        else:
            output.copy(LOOK)
        ranks.look()
    until = time.monotonic() + REST
    while output is not None and output.pipes and time.monotonic() < until:
        output.copy(LOOK)
    os._exit(ranks.code)


if __name__ == "__main__":
    main()
