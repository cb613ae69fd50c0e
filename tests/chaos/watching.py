"""A job under `loosestep run`, as who started it sees it: what it says, how it ends, what it leaves."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from tests.mpi.jobs import content

ROOT = Path(__file__).parents[2]
KEPT = 1 << 24  # characters of what a job says


class Job:
    """One that was started, and is read by threads, so that it never waits for its reader."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        foreign = ("OMPI_", "PMIX", "PMI_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=kept | {"OMP_NUM_THREADS": "1"} | environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self.texts, self.closing = {"out": "", "err": ""}, set[str]()
        self.news = threading.Condition()
        pipes = {"out": self.process.stdout, "err": self.process.stderr}
        self.readers = [
            threading.Thread(target=self.read, args=pair, daemon=True) for pair in pipes.items() if pair[1]
        ]
        for reader in self.readers:
            reader.start()

    def read(self, name: str, pipe: IO[bytes]) -> None:
        """All of one output, until its end or until it is to be closed."""
        while name not in self.closing:
            if not select.select([pipe], [], [], 0.05)[0]:
                continue
            text = os.read(pipe.fileno(), 1 << 16)
            if not text:
                break
            with self.news:
                if len(self.texts[name]) < KEPT:
                    self.texts[name] += text.decode(errors="replace")
                self.news.notify_all()
        pipe.close()

    def close(self, *names: str) -> None:
        """Read these outputs no more: who writes to them finds a broken pipe."""
        self.closing |= set(names)

    @property
    def out(self) -> str:
        return self.texts["out"]

    @property
    def err(self) -> str:
        return self.texts["err"]

    def wait_for(self, pattern: str, times: int, seconds: float) -> bool:
        """Whether it says so, so often, before it ends and before the time is over."""
        until = time.monotonic() + seconds
        with self.news:
            while len(re.findall(pattern, self.out)) < times:
                over = self.process.poll() is not None and not any(each.is_alive() for each in self.readers)
                if over or time.monotonic() > until:
                    return False
                self.news.wait(0.1)
        return True

    def end(self, seconds: float) -> int | None:
        """The exit code; None if it has not ended by then."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        for reader in self.readers:
            reader.join(2)
        return self.process.returncode

    def destroy(self) -> None:
        """And everything else that lives here."""
        for pid in others():
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def run_command(ranks: int, deadline: float, module: str, *arguments: str) -> list[str]:
    """Of `loosestep run`."""
    start = [sys.executable, "-m", "loosestep", "run", "-n", str(ranks), "--deadline", str(deadline), "-m", module]
    return [*start, *arguments]


def others() -> dict[int, str]:
    """The living processes of this process's own process namespace, but for its first and itself."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        pid, state = int(folder.name), content(folder / "stat").rpartition(b")")[2].split()[:1]
        if pid not in (1, os.getpid()) and state not in ([], [b"Z"], [b"X"]):
            found[pid] = content(folder / "cmdline").replace(b"\0", b" ").decode(errors="replace")[:150]
    return found


def left(seconds: float) -> dict[int, str]:
    """Who still lives after so many seconds at most."""
    until = time.monotonic() + seconds
    while (found := others()) and time.monotonic() < until:
        time.sleep(0.1)
    return found


def files(folder: Path) -> list[str]:
    """All that lie below."""
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if not file.is_dir())
