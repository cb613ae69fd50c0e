"""One trial: a job, a fault, the judgement, and the run that goes on from what was left.

python -m tests.chaos.trial 'kind=raises strategy=EASGD loop=torch ranks=2 rank=1 step=40' [--as-child FOLDER]

It is carried out in namespaces of its own: an empty /dev/shm, its own temporary folder, and its own processes, all
of which end with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos.job import expected
from tests.chaos.judging import Outcome, judge, judge_resumed
from tests.chaos.kind import OUTSIDE, START, found
from tests.chaos.spec import Spec
from tests.chaos.watching import ROOT, Job, files, left, others, run_command
from tests.mpi.jobs import parent

APART = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
# the shell is the first process there: it also buries the orphans
FIRST = ["sh", "-c", 'mount -t tmpfs -o size=2g tmpfs /dev/shm && "$@"; exit $?', "sh"]
PATIENCE = float(os.environ.get("CHAOS_PATIENCE", "1"))  # all limits of time times this: for a busy machine
BEGINNING = 90.0  # seconds for all ranks to begin
HANGS = 40.0  # seconds beyond its limit after which a launcher counts as one that never ends


def namespaces() -> list[str] | None:
    """How a command is begun apart from all others, as root or as who may map itself to root; None: not at all."""
    for command in (APART, [*APART[:1], "--map-root-user", *APART[1:]]):
        with suppress(OSError):
            if subprocess.run([*command, *FIRST, "true"], capture_output=True, check=False).returncode == 0:
                return [*command, *FIRST]
    return None


class Trial:
    """What a kind from outside may do, and see."""

    def __init__(self, spec: Spec, base: Path) -> None:
        self.spec, self.base, self.kind = spec, base, found()[spec.kind]
        self.folder, self.tmp = base / "checkpoint", base / "tmp"
        self.tmp.mkdir(parents=True, exist_ok=True)
        self.rank, self.random = spec.rank, Random(f"{spec} from outside")
        self.pids: dict[int, int] = {}
        self.problems: list[str] = []

    def wrong(self, sentence: str) -> None:
        """What must not be."""
        self.problems.append(sentence)

    # --- what a kind does --------------------------------------------------------------------------------

    parent = staticmethod(parent)

    def kill(self, pid: int, number: int) -> None:
        """Send a signal, unless it has ended."""
        with suppress(ProcessLookupError):
            if pid > 1:
                os.kill(pid, number)

    def signal(self, rank: int, number: int) -> None:
        """Send one to a rank."""
        self.kill(self.pids[rank], number)

    def mpiexec(self) -> int:
        """The process that the launcher started; 0 if it has ended."""
        return next((pid for pid in others() if parent(pid) == self.job.process.pid), 0)

    def replace_by_file(self, folder: Path) -> None:
        """However often the job makes its folder again."""
        until = time.monotonic() + 5
        while time.monotonic() < until:
            with suppress(OSError):
                folder.write_text("not a folder")
                return
            subprocess.run(["rm", "-rf", str(folder)], check=False)

    def start(self, *words: str) -> Job:
        arguments = [str(self.spec), str(self.folder), *words]
        if self.spec.loop == "threads":
            command = [sys.executable, "-m", "tests.chaos.job", *arguments]
        else:
            command = run_command(self.spec.ranks, self.kind.deadline * PATIENCE, "tests.chaos.job", *arguments)
        return Job(command, {"TMPDIR": str(self.tmp)})

    start_another = start

    # --- the trial ---------------------------------------------------------------------------------------

    def carry_out(self) -> Outcome:
        """The job and its fault, then the one that goes on; what was wrong is in `problems`."""
        with self.kind.around(self):
            self.job = self.start("fault")
            try:
                outcome = self.observe()
            finally:
                self.job.destroy()
        bits = self.reference() if self.spec.same_bits and self.spec.loop != "threads" else ""
        self.problems += judge(self.spec, self.kind, outcome, bits)
        subprocess.run("rm -rf /dev/shm/* " + str(self.tmp / "*"), shell=True, check=False)
        if self.kind.resumes and self.spec.loop != "threads":
            self.problems += judge_resumed(self.spec, self.resumed(), bits)
        return outcome

    def observe(self) -> Outcome:
        """The job until it has ended, and what it left."""
        began = self.act()
        code = self.job.end(self.kind.within * PATIENCE + HANGS)
        seconds = time.monotonic() - began
        return Outcome(
            code, seconds / PATIENCE, self.job.out, self.job.err, left(6 * PATIENCE), files(Path("/dev/shm")),
            files(self.tmp), files(self.folder) if self.folder.is_dir() else [],
        )  # fmt: skip

    def act(self) -> float:
        """Wait for the fault, or do it; when that was."""
        if self.kind.when == START or self.spec.loop == "threads":
            self.job.wait_for(f"at {START}", 1, BEGINNING * PATIENCE)
            return time.monotonic()
        said = self.job.wait_for(f"at {self.kind.when}", 1, BEGINNING * PATIENCE)
        began = time.monotonic()
        if self.kind.when == OUTSIDE and said:
            words = [line.split() for line in self.job.out.splitlines() if line.startswith("going ")]
            self.pids = {int(rank): int(pid) for _, pid, rank in words}
            self.kind.act(self)
        return began

    def resumed(self) -> Outcome:
        """The same job to which nothing happens."""
        self.job = self.start()
        try:
            code = self.job.end(BEGINNING * PATIENCE)
            return Outcome(code, 0, self.job.out, self.job.err, left(6 * PATIENCE), [], [], [])
        finally:
            self.job.destroy()

    def reference(self) -> str:
        """The bits of an unbroken run: of the library's loop in virtual time, of the user's by a job."""
        if self.spec.loop == "library":
            return expected(self.spec)
        folder, self.folder = self.folder, self.base / "unbroken"
        try:
            outcome = self.resumed()
        finally:
            self.folder = folder
        if not outcome.bits:
            raise RuntimeError(f"the unbroken run failed: {outcome.err[-2000:]}")
        return outcome.bits


def carry_out_apart(spec: Spec, seconds: float = 600.0) -> dict[str, Any]:
    """One trial in namespaces of its own: its problems, exit code, seconds and last words."""
    apart = namespaces()
    if apart is None:
        raise RuntimeError("a trial needs namespaces of its own (unshare), and they are not to be had here")
    with tempfile.TemporaryDirectory(prefix="chaos-") as base:
        command = [*apart, sys.executable, "-m", "tests.chaos.trial", str(spec), "--as-child", base]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)
        try:
            told: dict[str, Any] = json.loads(ended.stdout)
        except ValueError:
            raise RuntimeError(f"the trial itself failed: {ended.stdout[-500:]}{ended.stderr[-3000:]}") from None
        return told


def main() -> None:
    spec = Spec.parse(sys.argv[1])
    if "--as-child" not in sys.argv:
        print(json.dumps(carry_out_apart(spec), indent=1))
        return
    trial = Trial(spec, Path(sys.argv[3]))
    outcome = trial.carry_out()
    print(json.dumps({"problems": trial.problems, **outcome.told()}))


if __name__ == "__main__":
    main()
