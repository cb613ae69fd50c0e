"""Run by every rank: which files of loosestep one AllReduce goes through, and in how many calls.

`loosestep run -n 2 tests/mpi/calls.py 1,1` prints those of the straightest of many steps: one in which no worker
is late, so that none has to be looked after. A step begins where `LocalSGD` asks for its average and ends where it
has it. The native core counts as one file, named `_core`.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

import loosestep as ls

PACKAGE = Path(ls.__file__).resolve().parent
STEPS = 300
WARM = 20  # steps before the first that counts


class Tracer:
    """A profile function that counts the calls of one thread between two events of LocalSGD.round."""

    def __init__(self) -> None:
        self.steps: list[Counter[str]] = []
        self.calls: Counter[str] = Counter()
        self.inside = False
        self.places: dict[str, str | None] = {}

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        place = self.place(frame.f_code.co_filename)
        if event == "return" and type(argument) is ls.requests.AllReduce and place == "strategies/local_sgd":
            self.inside, self.calls = True, Counter({place: 1})
        elif not self.inside:
            return
        elif event == "call" and place is not None:
            self.calls[place] += 1
            if place == "strategies/local_sgd":
                self.inside = False
                self.steps.append(self.calls)
        elif event == "c_call" and is_native(argument):
            self.calls["_core"] += 1

    def place(self, name: str) -> str | None:
        """Return the file below the package, without its suffix; None if it is elsewhere."""
        if name not in self.places:
            path = Path(name).resolve()
            inside = PACKAGE in path.parents
            self.places[name] = str(path.relative_to(PACKAGE).with_suffix("")) if inside else None
        return self.places[name]


def is_native(function: Any) -> bool:
    """Return whether it is a function or a method of the core."""
    where = getattr(function, "__module__", None) or type(getattr(function, "__self__", None)).__module__
    return str(where).startswith("loosestep") or type(getattr(function, "__self__", None)).__name__ == "PyCapsule"


def straightest(on: ls.Transport) -> Counter[str]:
    """Return the calls by file of the step that went through the fewest files, and there had the fewest calls."""
    tracer = Tracer()

    def gradient(x: Any, batch: Any) -> Any:
        sys.setprofile(tracer)
        return np.zeros_like(x)

    batches = lambda rank, size: iter([0.0] * STEPS)  # noqa: E731
    try:
        ls.run(ls.LocalSGD(1), gradient, np.ones(64), batches, on=on)
    finally:
        sys.setprofile(None)
    return min(tracer.steps[WARM:], key=lambda calls: (len(calls), calls.total()))


if __name__ == "__main__":
    hosts = [int(count) for count in sys.argv[1].split(",")] if len(sys.argv) > 1 else None
    found = straightest(ls.MPI(hosts=hosts))
    rank = ls.MPI().rank
    print(f"rank {rank}: {len(found)} files, {found.total()} calls:", *sorted(found), flush=True)
