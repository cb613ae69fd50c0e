"""Small faults put into a copy of the source, one at a time: the unit tests of the module must find each.

    python -m tests.unit.mutations            all of them
    python -m tests.unit.mutations shards     those whose module or words hold a text

Each is (module, what is there, what takes its place, the fault in words). The module's unit tests alone run
against the copy; one that they let through is named, and so is one whose text the module no longer holds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "python" / "loosestep"
PATIENCE = 120  # seconds for the tests of a module, which take some without a fault


class Mutation(NamedTuple):
    """One fault."""

    module: str
    there: str
    instead: str
    words: str


MUTATIONS = [
    Mutation(
        "lowering/collectives",
        "for part in parts[1:]:",
        "for part in reversed(parts[1:]):",
        "a sum folds from the last rank to the first",
    ),
    Mutation(
        "lowering/hierarchical",
        "weight[0] = yield from collectives.all_reduce(among,",
        "yield from collectives.all_reduce(among,",
        "a host whose workers have no weight takes the leader's buffer all the same",
    ),
    Mutation(
        "transports/processes/mailbox",
        "key = (source, header.kind, header.tag)",
        "key = next((k for k in self.posted if k[:2] == (source, header.kind)), (source, header.kind, 0))",
        "a message goes to any receive of its sender, whatever its tag",
    ),
    Mutation(
        "transports/processes/shards",
        "low, high = self.edges(like.size)[self.mailbox.rank : self.mailbox.rank + 2]",
        "low, high = self.edges(like.size + 1)[self.mailbox.rank : self.mailbox.rank + 2]",
        "shards are cut one element too far",
    ),
    Mutation(
        "transports/processes/shards",
        "if len(line) == 1:",
        "if line:",
        "changes are sent without waiting for the answer to the one before",
    ),
    Mutation(
        "transports/processes/liveness",
        'if progress != self.progress or not all(state["waiting"] for state in states):',
        "if progress != self.progress:",
        "a worker that is busy passes for one that waits",
    ),
    Mutation(
        "transports/attendance",
        "self.waiting = [pair for pair in self.waiting if not pair[1].answer]",
        "pass",
        "those that were answered stay in the roll, and are answered again",
    ),
    Mutation(
        "transports/processes/departures",
        "if self.failed is None:",
        "if True:",
        "the last failure is named instead of the first",
    ),
    Mutation(
        "transports/processes/session",
        "if not begun:",
        "if True:",
        "every request for a stop begins the protocol again",
    ),
    Mutation(
        "runtime/checkpoint/worker_file",
        "if check != written[1]:",
        "if False:",
        "the checksum of a part is not compared",
    ),
    Mutation(
        "runtime/program",
        "(self.until is not None and clock >= self.until)",
        "(self.until is not None and clock > self.until)",
        "a stage ends one step too late",
    ),
    Mutation(
        "runtime/plan",
        "if self.halt_at is None:",
        "if True:",
        "a stop that was decided is decided again",
    ),
    Mutation(
        "runtime/stage_switch",
        "round(epoch * (steps_per_epoch or 1)) for epoch in accumulate(epochs)",
        "round(epoch * (steps_per_epoch or 1)) for epoch in epochs",
        "stages end after their own length instead of behind the one before",
    ),
    Mutation(
        "transports/stopwatch",
        "self._ahead[rank] -= perf_counter() - since",
        "pass",
        "a pause counts as time of the run",
    ),
    Mutation(
        "transports/delayed",
        "max(0.0, due.pop(request.request, 0.0) - clock())",
        "due.pop(request.request, 0.0)",
        "what was started is waited for as if it began when it is waited for",
    ),
    Mutation("transports/metered", "if worker.unmetered:", "if False:", "what is not metered is metered"),
    Mutation(
        "transports/failing",
        "number == self.config.at_request",
        "number == self.config.at_request + 1",
        "a worker fails one request too late",
    ),
    Mutation(
        "transports/matching",
        "if into.size != content.size or into.dtype != content.dtype:",
        "if into.dtype != content.dtype:",
        "the size of a message is not compared",
    ),
    Mutation(
        "transports/wrapper",
        "self.inner.resume(rank, seconds)",
        "pass",
        "a wrapper keeps to itself where a resumed clock begins",
    ),
    Mutation(
        "transports/simulated/network",
        "self.center_in = self.delivered[source] = max(whole, sent + latency)",
        "self.center_in = self.delivered[source] = whole",
        "a push is at the center before its worker has sent it",
    ),
    Mutation(
        "transports/processes/queries",
        "self.early.append((source, header, question))",
        "pass",
        "a question that comes too early is dropped",
    ),
    Mutation(
        "transports/mpi/channel",
        "while self.waiting and self.in_flight < IN_FLIGHT:",
        "while self.waiting:",
        "all parts of a payload are begun at once",
    ),
    Mutation(
        "transports/processes/progress",
        "continuation.error = error",
        "pass",
        "the error of what was started is lost",
    ),
    Mutation(
        "transports/processes/collective_slots",
        "while self.number in self.entered:",
        "while self.number in self.entered and len(self.entered) < 2:",
        "a collective waits for those behind it to leave",
    ),
    Mutation(
        "lowering/costs",
        "* itemsize, 2 * (n - 1)",
        "* itemsize, 2 * n",
        "a reduction is said to send two messages more",
    ),
    Mutation(
        "lowering/forms",
        "if whole < direct and",
        "if whole < pairwise and",
        "whole vectors are sent where chunks take less time",
    ),
    Mutation(
        "transports/processes/links",
        "((after, before), (before, after))",
        "((after, before), (after, before))",
        "a rank that comes late measures too short a latency",
    ),
    Mutation("lowering/lowering", "self.tags[group] += 1", "pass", "collectives that run at once have one tag"),
    Mutation("lowering/staging", "part.send()", "pass", "what came is not copied back to the device"),
    Mutation(
        "transports/zmq/runs",
        "                self.hand_on(arrival)\n            return None",
        "                pass\n            return None",
        "what one run reads of another's is lost",
    ),
    Mutation(
        "transports/zmq/runs",
        "            if inbox:\n                return inbox.popleft()\n",
        "",
        "what another run has read for this one stays there",
    ),
    Mutation(
        "transports/zmq/runs",
        "self.inboxes.pop(mark, None)",
        "self.inboxes.clear()",
        "the end of a run ends all others",
    ),
    Mutation(
        "transports/zmq/runs",
        "        with self.lock:\n            inbox",
        "        if True:\n            inbox",
        "two threads use the sockets at once",
    ),
    Mutation(
        "transports/zmq/peers",
        "if source is None:",
        "if False:",
        "a stranger without the token is heard",
    ),
    Mutation(
        "transports/zmq/peers",
        "if not self.socket.get(EVENTS) & POLLOUT:",
        "if True:",
        "libzmq is not asked for room, and a message waits for a millisecond",
    ),
    Mutation(
        "transports/zmq/peers",
        "self.flying[0][0].done):",
        "True):",
        "a payload counts as gone while libzmq reads its memory",
    ),
    Mutation(
        "transports/zmq/channel",
        "self.outgoing = {rank: Outgoing(socket, self.mark)",
        "self.outgoing = {rank: Outgoing(socket)",
        "parts of payloads do not name their run",
    ),
    Mutation(
        "transports/zmq/channel",
        "if rank not in self.left and",
        "if False and",
        "a lost connection is no failure",
    ),
    Mutation(
        "transports/zmq/membership",
        'self.tell("begun", self.runs)',
        'self.tell("begun", 1)',
        "a second run does not say that it has begun",
    ),
    Mutation(
        "transports/zmq/membership",
        "raise PeerFailed(rank, self.gone[rank])",
        "pass",
        "a rank that has ended is waited for until the deadline",
    ),
    Mutation(
        "transports/zmq/rendezvous",
        'if card["job"] != self.place.job:',
        "if False:",
        "another job's process joins this one",
    ),
    Mutation(
        "transports/zmq/sockets",
        "known = z85.encode(shown) == self.key.public",
        "known = True",
        "whoever has a key of their own may come in",
    ),
    Mutation(
        "transports/zmq/place",
        "if not rank.isdecimal() or int(rank) >= size:",
        "if not rank.isdecimal():",
        "a rank beyond the size is taken",
    ),
    Mutation(
        "runtime/checkpoint/disk",
        "    move(draft, path)\n    settle(path.parent)",
        "    move(draft, path)",
        "the name of a file is not waited for",
    ),
    Mutation(
        "runtime/checkpoint/folder", "if folder.name not in self.kept:", "if False:", "older checkpoints stay"
    ),
    Mutation(
        "runtime/checkpoint/locking",
        "if mine.alone and alone:",
        "if False:",
        "two runs of a process write to one folder",
    ),
    Mutation(
        "runtime/checkpoint/manifest",
        'if content.pop("check") != check(content):',
        'if content.pop("check") is None:',
        "the checksum of a manifest is not compared",
    ),
    Mutation(
        "runtime/checkpoint/resize", "offset / totals[name]", "offset", "a mean is not divided by its weights"
    ),
    Mutation(
        "runtime/checkpoint/state",
        'session.resume(worker.rank, float(facts["seconds"]))',
        "pass",
        "a resumed clock begins at zero",
    ),
    Mutation(
        "runtime/signals",
        "if original.here and not asked:",
        "if not asked:",
        "a forked copy heeds a signal as if it were the run",
    ),
    Mutation("runtime/numpy_model", "worker.samples += count", "pass", "samples of a round are not counted"),
    Mutation(
        "runtime/user_loop",
        "self.connection.meter.waiting -= spent",
        "pass",
        "time in the user's code counts as waiting",
    ),
    Mutation(
        "runtime/result",
        "max(column) if name in most else sum(column)",
        "sum(column)",
        "steps of processes are added",
    ),
]


def mutated(mutation: Mutation, folder: Path) -> bool:
    """Put the fault into a copy of the package; whether its text was there, once."""
    shutil.copytree(PACKAGE, folder / "loosestep", ignore=shutil.ignore_patterns("__pycache__"))
    file = folder / "loosestep" / f"{mutation.module}.py"
    text = file.read_text()
    file.write_text(text.replace(mutation.there, mutation.instead))
    return text.count(mutation.there) == 1


def run_tests(module: str, package: Path) -> tuple[int, str]:
    """The unit tests of a module against a copy of the package: exit code, and what pytest says last."""
    tests = Path("tests/unit") / Path(module).parent / f"test_{Path(module).name}.py"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-n0",
        "--timeout=60",
        "-p",
        "no:cacheprovider",
        str(tests),
    ]
    environment = {**os.environ, "PYTHONPATH": str(package), "PYTHONWARNINGS": "ignore"}
    try:
        ended = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:  # of what never comes hypothesis looks for the shortest way to it
        return 1, f"the tests do not end within {PATIENCE} s"
    failed = [line for line in ended.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return ended.returncode, (failed or ended.stdout.splitlines() or [ended.stderr])[-1]


def attempt(mutation: Mutation) -> bool:
    """Whether the unit tests find it; says so in a line."""
    with tempfile.TemporaryDirectory() as folder:
        there = mutated(mutation, Path(folder))
        began = time.monotonic()
        code, line = (
            run_tests(mutation.module, Path(folder)) if there else (0, "the module does not hold its text")
        )
        found = code == 1
    word = "found" if found else "NOT FOUND"
    print(
        f"{word:9}  {mutation.module}: {mutation.words} ({time.monotonic() - began:.0f} s)\n           {line}",
        flush=True,
    )
    return found


def main(text: str = "") -> int:
    """Try all that hold the text; the exit code says whether one was let through."""
    chosen = [each for each in MUTATIONS if text in f"{each.module} {each.words}"]
    missed = [each for each in chosen if not attempt(each)]
    print(f"{len(chosen) - len(missed)} of {len(chosen)} found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
