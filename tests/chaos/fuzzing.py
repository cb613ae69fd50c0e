"""Many small cases drawn from a seed, in a process that may not survive them.

A module of `fuzz/` has `KINDS`, functions of a `Draw` by name: each makes one input, gives it to the library, and
returns one word for what happened, or raises where that must not be. `ALL` is how many cases `-m chaos` has.

python -m tests.chaos.fuzzing MODULE SEED FIRST END [KIND,KIND]: says `begin NUMBER`, then
`end NUMBER KIND WORD` or `wrong NUMBER KIND TEXT`.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.draw import Draw
from tests.chaos.watching import ROOT

MEMORY_DISK = "/dev/shm" if Path("/dev/shm").is_dir() else None  # thousands of cases need not wait for a disk
MEMORY = 6 << 30  # bytes a case may take: more is a MemoryError
LONGEST = 60  # seconds for one case
QUIET = 3 * LONGEST  # seconds after which a process that says nothing is ended: it hangs in native code
Case = Callable[[Draw], str]


@dataclass
class Tally:
    """What became of the cases: how often each word, and what must not be."""

    words: Counter[str] = field(default_factory=Counter)
    wrong: dict[int, str] = field(default_factory=dict)  # by the number of the case
    done: int = 0  # the number after the last case


# --- in the child ------------------------------------------------------------------------------------------


def main() -> None:
    name, seed, first, end, *rest = sys.argv[1:]
    kinds: dict[str, Case] = importlib.import_module(name).KINDS
    names = rest[0].split(",") if rest else sorted(kinds)
    faulthandler.enable()
    warnings.simplefilter("ignore")  # of numpy and scipy, about what was made wrong on purpose
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.RLIM_INFINITY))
    signal.signal(signal.SIGALRM, too_long)
    os.chdir(base := os.environ.get("CHAOS_FOLDER") or tempfile.mkdtemp(prefix="chaos-"))
    for number in range(int(first), int(end)):
        turn, kind = divmod(number, len(names))
        draw = Draw(f"{names[kind]} {seed} {turn}", turn, Path(base) / str(number))
        tell(f"begin {number}")
        tell(carry_out(kinds, names[kind], number, draw))


def carry_out(kinds: dict[str, Case], kind: str, number: int, draw: Draw) -> str:
    """One case; what to say of it."""
    draw.folder.mkdir()
    signal.alarm(LONGEST)
    try:
        return f"end {number} {kind} {kinds[kind](draw)}"
    except BaseException as error:  # whatever comes, a case is no reason to end
        lines = traceback.format_exc().splitlines()
        return f"wrong {number} {kind} {json.dumps([f'{type(error).__name__}: {error}'[:600], *lines[-6:]])}"
    finally:
        signal.alarm(0)
        shutil.rmtree(draw.folder, ignore_errors=True)


def too_long(*_: object) -> None:
    raise TimeoutError(f"a case took longer than {LONGEST} s")


def tell(text: str) -> None:
    print(text, flush=True)


# --- in the parent -----------------------------------------------------------------------------------------


def fuzz(name: str, seed: int, first: int, end: int, names: tuple[str, ...] = ()) -> Tally:
    """All cases from `first` to before `end`; one that kills its process is wrong; the next goes on."""
    tally = Tally(done=first)
    while tally.done < end:
        command = [sys.executable, "-m", "tests.chaos.fuzzing", name, str(seed), str(tally.done), str(end)]
        child(command + ([",".join(names)] if names else []), tally)
        if len(tally.wrong) > 200:
            break  # there is no need for more
    return tally


def child(command: list[str], tally: Tally) -> None:
    """As many of the cases as one process survives."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    begun, ended = -1, False
    with (
        tempfile.TemporaryDirectory(prefix="chaos-", dir=MEMORY_DISK) as base,  # ours: the process may not live to
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "2", "CHAOS_FOLDER": base},
        ) as process,
    ):
        for line in lines(process):
            word, number, *rest = line.split(" ", 3)
            begun, ended = int(number), word != "begin"
            if ended:
                tally.done = begun + 1
            if word == "end":
                tally.words[f"{rest[0]}: {rest[1]}"] += 1
            elif word == "wrong":
                tally.wrong[begun] = f"{rest[0]}: " + "\n    ".join(json.loads(rest[1]))
        code = process.wait()
        if code or not ended:
            errors.seek(0)
            said = errors.read().decode(errors="replace")
            if begun < 0:
                raise RuntimeError(f"no case was begun: {said[-1500:]}")
            last = said[max(said.rfind("Fatal Python error"), 0) :][:1500]
            tally.wrong[begun] = f"its process ended with {code}: {last}"
            tally.done = begun + 1


def lines(process: subprocess.Popen[bytes]) -> list[str]:
    """What a process says, until it ends or is silent for too long."""
    assert process.stdout is not None
    said, heard = b"", time.monotonic()
    while True:
        if select.select([process.stdout], [], [], 1)[0]:
            text = os.read(process.stdout.fileno(), 1 << 16)
            if not text:
                break
            said, heard = said + text, time.monotonic()
        elif time.monotonic() - heard > QUIET:
            with suppress(ProcessLookupError):
                process.kill()
            break
    return [line for line in said.decode().splitlines() if line.startswith(("begin ", "end ", "wrong "))]


if __name__ == "__main__":
    main()
