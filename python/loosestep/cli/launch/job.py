"""One mpiexec, from its start to its exit code: signals pass through, and no process outlives it."""

from __future__ import annotations

import math
import os
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from loosestep.cli.launch import guard, records

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.cli.launch.mpiexec import Mpi

LOOK = 0.1  # seconds between two looks at signals and the clock
GRACE = 5.0  # seconds that mpiexec has to end its ranks before it is killed, and they with it
AGAIN = 3  # times that mpiexec is started again where it failed before any rank began
UNSTARTED = b"The PMIx server's listener thread failed to start"  # Open MPI 5 on a busy machine, now and then
OVERDUE = 124  # the exit code of a job that took longer than its deadline, as timeout(1) has it
EARLY = 5.0  # seconds for the others after a rank failed before its run: those waiting at their start are not told
KILLED = 128 + int(signal.SIGKILL)
CERTAIN = 2.0  # seconds after which a killed guard is no sign that mpiexec is about to end the job
LEFT = 10.0  # seconds for mpiexec to end after all ranks have
LONGEST = 500  # bytes of a guard's line, which may come in two pieces
FAILED = re.compile(
    rb"loosestep run: rank \d+ on \S+ \(process \d+\) (ended with exit code|was killed by signal) (\d+)(.*)\n"
)


@dataclass(frozen=True)
class Limits:
    """Seconds: of the whole job; and of the other ranks after one has failed (before its run: `EARLY` at most)."""

    deadline: float = math.inf
    linger: float = 60.0

    def __post_init__(self) -> None:
        for name in ("deadline", "linger"):
            if math.isnan(getattr(self, name)):  # which no clock ever passes, and none is before
                raise ValueError(f"--{name} must be a number of seconds, or inf for no limit, got nan")


class Job:
    """A command of mpiexec, run once. `alone`: all its ranks are on this machine."""

    def __init__(
        self,
        mpi: Mpi,
        command: list[str],
        environment: dict[str, str],
        limits: Limits,
        *,
        alone: bool = False,
    ) -> None:
        self.mpi, self.command, self.environment, self.limits = mpi, command, environment, limits
        self.alone = alone
        self.ranks = int(environment.get("LOOSESTEP_RANKS", 0))
        self.until = self.left_behind = math.inf
        self.lingering = limits.linger
        self.killed: list[tuple[float, records.Killed]] = []  # guards, since when
        self.asked: list[int] = []  # signals that came, in order
        self.passed = 0  # how many of them were acted on
        self.failed = 0  # the exit code of the first rank that failed, and whether it failed of itself
        self.culprit = False
        self.overdue = self.abandoned = False
        self.tail = b""

    def carry_out(self) -> int:
        """Run to the end; the exit code: 0 if every rank's was, 128 + its number after a signal."""
        self.until = time.monotonic() + self.limits.deadline
        with self.listening(), records.own_folder() as folder:
            self.guards = records.Guards(folder, guard.RANKS)
            own = self.mpi.private(folder) if self.alone else {}
            self.environment = {**own, **self.environment, guard.RECORDS: str(folder)}
            self.run()
            for _ in range(AGAIN):
                if UNSTARTED in self.tail and not self.asked:
                    say("mpiexec could not start, before any rank had begun; trying again")
                    self.tail = b""
                    self.run()
        return self.exit_code()

    def run(self) -> None:
        with self.started():
            while self.process.poll() is None:
                self.hear(LOOK)
                self.obey()
                self.watch_the_guards()
                self.watch_the_clock()
            while self.killed and not self.process.returncode:
                self.tell_of_killed()

    def watch_the_guards(self) -> None:
        """Watch for killed guards, which leave no report while mpiexec waits for their output."""
        now = time.monotonic()
        self.killed += [(now, killed) for killed in self.guards.look(self.process.pid)]
        while self.killed and now - self.killed[0][0] > CERTAIN:
            self.tell_of_killed()
        if len(self.asked) == 1 and self.guards.early:  # of what a signal ended the guard says nothing
            self.fail(self.guards.early, begun=False)
        if self.guards.abort:  # a rank has given the others up, one of which may be stopped
            self.lingering, self.until = 0.0, min(self.until, now)
        if self.left_behind == math.inf and self.guards.ended == self.ranks:
            self.left_behind = now + LEFT

    def tell_of_killed(self) -> None:
        """Report the guard that was killed first."""
        _, killed = self.killed.pop(0)
        say(f"the guard of rank {killed.rank} (process {killed.process}) was killed, and the rank with it")
        self.fail(KILLED, killed.begun)

    def watch_the_clock(self) -> None:
        now = time.monotonic()
        if now > self.left_behind:
            self.abandoned = True
            say("all ranks have ended, but not what one of them started, which holds their output: not waited for")
        elif now < self.until:
            return
        elif self.failed:
            say(f"the other ranks had {self.lingering:g} s to end by themselves, and were ended")
        else:
            self.overdue = True
            say(f"the job took longer than its deadline of {self.limits.deadline:g} s and was ended")
        self.stop()

    # --- signals -----------------------------------------------------------------------------------------

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Record signals while the job runs; the handlers do nothing else."""
        note = lambda number, _: self.asked.append(number)  # noqa: E731
        before = {number: signal.signal(number, note) for number in self.mpi.passes}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def obey(self) -> None:
        """Pass the first signal on to the ranks; a second one ends the job now."""
        if len(self.asked) == self.passed:
            return
        first, self.passed = self.passed == 0, len(self.asked)
        if first and self.passed == 1:
            self.process.send_signal(self.mpi.passes[self.asked[0]])
        else:
            self.stop()

    # --- the process -------------------------------------------------------------------------------------

    @contextmanager
    def started(self) -> Iterator[None]:
        """Start mpiexec in a session of its own, so that Ctrl-C at the terminal reaches it through us alone."""
        entry: Any = subprocess.DEVNULL if sys.stdin is None or sys.stdin.isatty() else None  # not ours to read
        with subprocess.Popen(
            self.command,
            env=self.environment,
            stdin=entry,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=partial(guard.die_with, os.getpid()),
        ) as self.process:
            try:
                yield
            finally:
                self.stop()
                while self.hear(LOOK):
                    pass

    def stop(self) -> None:
        """End mpiexec, which ends its ranks; their guards end them where it cannot."""
        self.process.terminate()
        until = time.monotonic() + GRACE
        while self.process.poll() is None:
            self.hear(LOOK)
            if time.monotonic() > until:
                self.process.kill()
                self.process.wait()

    def hear(self, seconds: float) -> bool:
        """Pass what comes on standard error through, and note who failed; False if nothing came."""
        pipe: Any = self.process.stderr
        if not select.select([pipe], [], [], seconds)[0]:
            return False
        text = os.read(pipe.fileno(), 1 << 16)
        sys.stderr.buffer.write(text)
        sys.stderr.buffer.flush()
        self.tail = (self.tail + text)[-LONGEST - len(text) :]
        self.note()
        if not text:
            time.sleep(seconds)  # closed before the end: there is nothing to wait for
        return bool(text)

    def note(self) -> None:
        """Open MPI's exit code is 0 when a rank dies and the others end well: the guards know better."""
        for found in FAILED.finditer(self.tail):
            code = int(found[2]) + (128 if b"signal" in found[1] else 0)
            begun = guard.UNBEGUN.encode() not in self.tail
            self.fail(code, begun=begun, first=guard.AFTER.encode() not in found[3])

    def fail(self, code: int, begun: bool, first: bool = True) -> None:
        """Give the job the exit code of the rank that failed first by itself, and the others their time limit."""
        shorter = not begun and EARLY < self.lingering < math.inf
        if first and not self.culprit:
            self.failed, self.culprit = code, True
        elif not self.failed:
            self.failed = code
        elif not shorter:
            return
        self.lingering = EARLY if shorter else self.lingering
        self.until = min(self.until, time.monotonic() + self.lingering)

    def exit_code(self) -> int:
        code = self.process.returncode
        if self.overdue:
            return OVERDUE
        if self.abandoned and not self.asked:
            return self.failed
        if self.asked:
            return self.failed or 128 + self.asked[0]
        if code < 0:
            say(f"{self.command[0]} was killed by signal {-code} ({signal.strsignal(-code)})")
        return self.failed or (code if code >= 0 else 128 - code)


def say(sentence: str) -> None:
    """Print one line on standard error."""
    print(f"loosestep run: {sentence}", file=sys.stderr, flush=True)
