"""What a process of the tests in test_data_processes.py does: `python data_processes.py WHAT NAME NUMBER`."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from loosestep.data import CoordinatedLoader, MinIOCache

ROWS, EPOCHS, JOBS = 60, 3, 3


class Rows:
    """Samples of 1000 bytes; each read is a line of a file."""

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, number: int) -> bytes:
        with open("reads", "a") as reads:
            reads.write(f"{number}\n")
        return number.to_bytes(1000, "little")


def patience(name: str) -> float:
    """Seconds to wait for others: few where one of them will be stopped."""
    return 6.0 if name.startswith("stopped") else 60.0


def say(*words: object) -> None:
    """Print at once."""
    print(*words, flush=True)


def hold(name: str, number: int) -> None:
    """Be in the middle of adding a sample for ever."""
    cache = MinIOCache(Rows(), 1 << 20, name=name)
    cache[number]
    with cache.store.segment.locked(1.0):
        say("held")
        time.sleep(600)


def read(name: str, number: int) -> None:
    """Read all samples for some epochs, in an order of its own."""
    cache = MinIOCache(Rows(), 1 << 20, name=name, deadline=patience(name))
    say("open")
    sys.stdin.readline()
    for epoch in range(EPOCHS):
        for place in range(ROWS):
            sample = (place * 7 + epoch + number * 11) % ROWS
            assert cache[sample] == sample.to_bytes(1000, "little")
    stats = cache.stats()
    say(stats.hits, stats.misses, stats.stored)
    sys.stdin.readline()


def job(name: str, number: int) -> None:
    """Be one of three jobs; job 1 kills itself, or stops, after some batches."""
    dies = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}.get(name.partition("-")[0])

    def prepare(batches: Sequence[list[int]]) -> Iterable[Any]:
        for numbers in batches:
            with open("prepared", "a") as prepared:
                prepared.write(f"{numbers[0]}\n")
            yield numbers

    seen: list[int] = []
    options: dict[str, Any] = {
        "epochs": EPOCHS,
        "name": name,
        "capacity": 1 << 16,
        "slots": 4,
        "deadline": patience(name),
    }
    with CoordinatedLoader(range(ROWS), 5, job=number, jobs=JOBS, prepare=prepare, **options) as loader:
        for _ in range(EPOCHS):
            for batch in loader:
                seen += batch
                if dies and number == 1 and len(seen) == 80:
                    os.kill(os.getpid(), dies)
        say(*seen)
        say(loader.stats().prepared)


if __name__ == "__main__":
    what, name, number, folder = sys.argv[1:]
    os.chdir(Path(folder))
    {"hold": hold, "read": read, "job": job}[what](name, int(number))
