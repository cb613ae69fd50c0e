"""How many calls, in how many files, a step of a torch loop makes: `python tests/torch/calls.py [PERIOD] [-v]`.

Under `mpiexec -n 2` it is a step of two workers, by itself one of a single worker. A call is one of a function,
generator expression or generator (each time it goes on) in a file of `python/loosestep`, made by the last
`optimizer.step()` of a few, or by torch on its behalf. What is printed is rank 0's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

import loosestep as ls
import loosestep.torch

PACKAGE = f"{Path(ls.__file__).parent}/"


def calls(action: Callable[[], object]) -> list[tuple[str, str]]:
    """Return (file, function) of every call that `action` makes in the package, in order."""
    found: list[tuple[str, str]] = []

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            found.append((frame.f_code.co_filename.removeprefix(PACKAGE), frame.f_code.co_qualname))

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return found


def step_of(strategy: ls.Strategy, steps: int) -> list[tuple[str, str]]:
    """Return the calls of `optimizer.step()` alone, of the last of `steps` steps of a small network."""
    torch.manual_seed(0)
    net = nn.Linear(4, 2)
    inner = torch.optim.SGD(net.parameters(), 0.1)
    with loosestep.torch.parallel(net, inner, strategy) as optimizer:
        for step in range(steps):
            optimizer.zero_grad()
            net(torch.ones(3, 4)).sum().backward()
            if step < steps - 1:
                optimizer.step()
        return calls(optimizer.step)


def main(arguments: list[str]) -> None:
    period = int(arguments[0]) if arguments and arguments[0].isdigit() else 3
    found = step_of(ls.LocalSGD(period), 2 * period)
    if "-v" in arguments:
        print(*(f"{file}: {function}" for file, function in found), sep="\n")
    print(f"LocalSGD({period}), its end: {len(found)} calls in {len({file for file, _ in found})} files")


if __name__ == "__main__":
    main(sys.argv[1:])
