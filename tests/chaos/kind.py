"""What a kind of fault is: who does what, when, and how a job may end then.

A kind is a decorated function in a module of `kinds/`, which is scanned: nothing else names it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SURVIVES, FAILS, STOPS, EITHER = "survives", "fails", "stops", "either"
"""How a job ends: as if nothing had been; with an exit code but 0 and the failed rank named; by a signal from the
user, unless it was done by then; one of these."""

START, JOINED, STEP, OUTSIDE = "start", "joined", "step", "outside"
"""When a kind acts: in a rank before it begins MPI, when it knows its rank, at a step; or from outside."""

LOOPS = ("library", "torch")


@dataclass(frozen=True)
class Kind:
    """One kind of fault, and what must hold for a job to which it happens."""

    name: str
    act: Callable[[Any], None]  # on `job.Place` in a rank, on `trial.Trial` from outside
    when: str
    ends: str
    codes: tuple[int, ...] = ()  # one of them, where the job fails; any but 0 if there are none
    named: bool = True  # a job that fails says which rank it was
    within: float = 30.0  # seconds from the fault to the end of `loosestep run`
    deadline: float = 300.0  # seconds that `loosestep run` gives the job
    loops: tuple[str, ...] = LOOPS
    strategies: tuple[str, ...] = ()  # all if there are none
    hosts: bool | None = None  # True: on several hosts only; False: on one
    settings: dict[str, Any] | None = None  # of the job, see `spec.Settings`
    around: Callable[[Any], AbstractContextManager[Any]] = nullcontext  # from before the job to its end
    resumes: bool = True  # the run goes on from its folder afterwards
    saved: bool = False  # ... and has something to go on from
    unread: bool = False  # what it says cannot be read: its end is judged without


def kind(**facts: Any) -> Callable[[Callable[[Any], None]], Kind]:
    """Make a kind of a function, by its name."""
    return lambda act: Kind(act.__name__, act, **facts)


def in_rank(ends: str, when: str = STEP, **facts: Any) -> Callable[[Callable[[Any], None]], Kind]:
    """Say of a function that the rank does it that was drawn."""
    return kind(when=when, ends=ends, **facts)


def outside(ends: str, **facts: Any) -> Callable[[Callable[[Any], None]], Kind]:
    """Say of a function that it is done to a job, at a step of the rank that was drawn."""
    return kind(when=OUTSIDE, ends=ends, **facts)


def modules(folder: str) -> Iterator[Any]:
    """Every module in a folder beside this file."""
    for file in sorted((Path(__file__).parent / folder).glob("*.py")):
        yield importlib.import_module(f"tests.chaos.{folder}.{file.stem}")


def found() -> dict[str, Kind]:
    """All kinds there are, by their names."""
    every = [value for module in modules("kinds") for value in vars(module).values() if isinstance(value, Kind)]
    named = {each.name: each for each in every}
    if len(named) < len(every):
        raise ValueError(f"two kinds have one name: {sorted(each.name for each in every)}")
    return named
