"""Run by every rank: through which files of loosestep a step goes, and in how many calls.

    loosestep run -n 4 tests/calls.py average 2,2    an average of `LocalSGD(1)`, on hosts of two workers each
    loosestep run -n 2 tests/calls.py torch 3        `optimizer.step()` at the end of a period of `LocalSGD(3)`

`python tests/calls.py torch` is the step of one worker alone. What is printed is the straightest of many steps:
one in which no worker is late, so that none has to be looked after. `-v` lists its calls.

A call is one of a function, or of a generator each time it goes on. Those of the native core count as calls of one
file, named `_core`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

import loosestep as ls

PACKAGE = Path(ls.__file__).resolve().parent
STEPS = 300
WARM = 20  # steps before the first that counts

Calls = list[tuple[str, str]]  # (file below the package without its suffix, function), in order


class Tracer:
    """A profile function that lists the calls of one thread in the package."""

    def __init__(self) -> None:
        self.calls: Calls = []
        self.files: dict[str, str | None] = {}

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        if event == "call" and (file := self.file(frame)) is not None:
            self.calls.append((file, frame.f_code.co_qualname))
        elif event == "c_call" and is_native(argument):
            self.calls.append(("_core", argument.__name__))

    def file(self, frame: Any) -> str | None:
        """Return the file of a frame; None if it is outside the package."""
        name = frame.f_code.co_filename
        if name not in self.files:
            path = Path(name).resolve()
            inside = PACKAGE in path.parents
            self.files[name] = str(path.relative_to(PACKAGE).with_suffix("")) if inside else None
        return self.files[name]


class AverageTracer(Tracer):
    """Lists the calls of each average: from where `LocalSGD` asks for it to where `LocalSGD` has it."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Calls] = []
        self.inside = False

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        if event == "return" and type(argument) is ls.requests.AllReduce and self.in_strategy(frame):
            self.inside, self.calls = True, [("strategies/local_sgd", "LocalSGD.round")]
        elif self.inside:
            super().__call__(frame, event, argument)
            if event == "call" and self.in_strategy(frame):
                self.inside = False
                self.steps.append(self.calls)

    def in_strategy(self, frame: Any) -> bool:
        """Return whether a frame is one of LocalSGD."""
        return self.file(frame) == "strategies/local_sgd"


def is_native(function: Any) -> bool:
    """Return whether it is a function or a method of the core."""
    where = getattr(function, "__module__", None) or type(getattr(function, "__self__", None)).__module__
    return str(where).startswith("loosestep") or type(getattr(function, "__self__", None)).__name__ == "PyCapsule"


def files(calls: Calls) -> set[str]:
    """Return the files of some calls."""
    return {file for file, _ in calls}


def straightest(steps: list[Calls]) -> Calls:
    """Return the step that went through the fewest files, and there had the fewest calls."""
    return min(steps, key=lambda calls: (len(files(calls)), len(calls)))


def averages(on: ls.Transport) -> list[Calls]:
    """Return the calls of many averages."""
    tracer = AverageTracer()

    def gradient(x: Any, batch: Any) -> Any:
        sys.setprofile(tracer)
        return np.zeros_like(x)

    batches = lambda rank, size: iter([0.0] * STEPS)  # noqa: E731
    try:
        ls.run(ls.LocalSGD(1), gradient, np.ones(64), batches, on=on)
    finally:
        sys.setprofile(None)
    return tracer.steps[WARM:]


def torch_steps(period: int) -> list[Calls]:
    """Return the calls of `optimizer.step()`, or by torch on its behalf, at the end of each of many periods."""
    import torch
    from torch import nn

    import loosestep.torch

    torch.manual_seed(0)
    net = nn.Linear(4, 2)
    inner = torch.optim.SGD(net.parameters(), 0.1)
    steps: list[Calls] = []
    with loosestep.torch.parallel(net, inner, ls.LocalSGD(period)) as optimizer:
        for step in range(1, STEPS + 1):
            optimizer.zero_grad()
            net(torch.ones(3, 4)).sum().backward()
            tracer = Tracer()
            sys.setprofile(tracer if step % period == 0 else None)
            try:
                optimizer.step()
            finally:
                sys.setprofile(None)
            if step % period == 0:
                steps.append(tracer.calls)
    return steps[WARM:]


def main(what: str, *more: str) -> None:
    asked = [each for each in more if each != "-v"]
    if what == "average":
        hosts = [int(count) for count in asked[0].split(",")] if asked else None
        found = straightest(averages(ls.MPI(hosts=hosts)))
    else:
        found = straightest(torch_steps(int(asked[0]) if asked else 3))
    through = files(found)
    text = f"rank {ls.MPI().rank}: {len(through)} files, {len(found)} calls: {' '.join(sorted(through))}"
    listed = [f"  {file}: {function}" for file, function in found] if "-v" in more else []
    print("\n".join([text, *listed]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
