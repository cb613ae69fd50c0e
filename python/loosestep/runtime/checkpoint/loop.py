"""Checkpoints of a user's loop: one file a worker, written and read as those of `run`.

All workers learn of what goes wrong on one before the checkpoint counts, so that all raise, and go on, alike.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Protocol

from loosestep.foundation import checks
from loosestep.foundation.errors import CheckpointError
from loosestep.runtime.checkpoint.folder import KEEP, Folder, drawn, holds
from loosestep.runtime.checkpoint.resize import merged
from loosestep.runtime.checkpoint.resume_point import choose
from loosestep.runtime.checkpoint.state import understood

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from os import PathLike

    from loosestep.requests import Buffer
    from loosestep.runtime.checkpoint.folder import Facts, Part
    from loosestep.runtime.checkpoint.member import Member

Tensors = dict[str, Any]
ADVICE = "call restore(folder) first to go on from it, or give another folder"


class Beside(Protocol):
    """What a framework keeps in a checkpoint beside its optimizers: the user's `also=`, and random numbers."""

    def checked(self, also: Any) -> None:
        """Raise TypeError for what cannot be saved and loaded."""

    def save(self, also: Any, tensors: Tensors) -> Facts:
        """Put arrays into `tensors`, and return the rest as JSON."""

    def check(self, also: Any, facts: Facts, where: str) -> None:
        """Refuse another `also` than that which was saved, before anything is changed."""

    def load(self, also: Any, tensors: Tensors, facts: Facts) -> None:
        """Load what `save` was given."""

    def load_random_states(self, tensors: Tensors, facts: Facts) -> None:
        """Let generators go on drawing where the checkpoint stood."""


class Checkpoints:
    """The checkpoint folders of one worker's loop, and what is written to them.

    members: the optimizers whose states make one checkpoint, in which all of them are of one moment. Names of the
    first are as they are; those of others begin with their number.
    """

    def __init__(self, members: Sequence[Member], beside: Beside) -> None:
        self.members, self.beside = list(members), beside
        self.agreement, self.worker = members[0].agreement, members[0].worker
        self.rank, self.size = self.agreement.rank, self.agreement.size
        self.known: dict[str, Folder] = {}
        self.joint: dict[tuple[int, ...], Checkpoints] = {}  # with other optimizers

    def signature(self) -> Facts:
        """Return what a checkpoint must have in common with this run."""
        every = [member.signature() for member in self.members]
        return {
            "strategy": " and ".join(each["strategy"] for each in every),
            "optimizer": " and ".join(each["optimizer"] for each in every),
            "workers": self.size,
            "tensors": [one for each in every for one in each["tensors"]],
            "parameters": " and ".join(each["parameters"] for each in every),
        }

    def folder(self, path: str | PathLike[str]) -> Folder:
        """Return the folder at this path, one however the path is spelled."""
        key = os.path.realpath(path)
        if key not in self.known:
            self.known[key] = Folder(path, self.signature(), resume=True, advice=ADVICE)
        return self.known[key]

    def close(self) -> None:
        """Let other jobs write to the folders."""
        for folder in self.known.values():
            folder.close()
        for joint in self.joint.values():
            joint.close()

    # --- writing -----------------------------------------------------------------------------------------

    def save(self, path: str | PathLike[str], note: Any, keep: int = KEEP, also: Any = ()) -> None:
        """Write all workers' parts, then the manifest that makes them count."""
        prepared = self.agreement.all_or_none("save()", lambda: self.prepare(path, note, keep, also))
        check_alike("keep", [kept for *_, kept in prepared], self.agreement.who)
        folder = self.folder(path)
        folder.begin(prepared[0][1])
        step = max(clock for clock, *_ in prepared)
        try:
            parts = self.agreement.all_or_none(
                "save()", lambda: folder.write(step, self.rank, *self.part(note, also, step))
            )
        except Exception:
            if self.rank == 0:
                folder.drop(step)
            raise
        try:
            self.agreement.all_or_none("save()", lambda: self.commit(folder, step, parts))
        except BaseException:
            folder.fail(step)
            raise
        if self.rank != 0:
            folder.follow(step)

    def prepare(self, path: str | PathLike[str], note: Any, keep: int, also: Any) -> list[Any]:
        """Refuse what can be refused before anything is written; return clock, an id for a new run, and keep."""
        check_note(note)
        self.beside.checked(also)
        for member in self.members:
            member.check_ready()
        folder = self.folder(path)
        folder.keep = checks.integer("keep", keep)
        if self.rank == 0 and not folder.key:
            folder.probe(0)
            folder.lock(alone=False)
        folder.check_own()  # another optimizer of this script, or a job before the lock, may have written there
        for member in self.members:
            member.check_finite()
        return [self.worker.clock, drawn(), folder.keep]

    def commit(self, folder: Folder, step: int, parts: list[Part]) -> None:
        """Let the checkpoint count: rank 0 writes its manifest."""
        if self.rank == 0:
            folder.commit(step, parts, {})

    def part(self, note: Any, also: Any, step: int) -> tuple[dict[str, Buffer], Facts]:
        """Return this worker's part: what its optimizers hold, the user's objects, random numbers."""
        tensors, facts = self.members[0].part(step)
        more = []
        for number, member in enumerate(self.members[1:], 1):
            of_it, about = member.part(step)
            tensors |= {f"{number}/{name}": tensor for name, tensor in of_it.items()}
            more.append(about)
        return tensors, {**facts, "others": more, **self.beside.save(also, tensors), "note": note}

    # --- reading -----------------------------------------------------------------------------------------

    def restore(self, path: str | PathLike[str], also: Any = ()) -> Any:
        """Go to the newest whole checkpoint, and return its note; None where there is no checkpoint."""
        runs = self.agreement.all_or_none("restore()", lambda: self.enter(path, also))
        folder = self.folder(path)
        ranks = [self.rank]
        found = choose(folder, ranks, lambda mine: self.agreement.all_gather("restore()", mine))
        folder.begin(runs[0])
        if found is None:
            return None
        read: list[tuple[Tensors, list[Facts]]] = []
        self.agreement.all_or_none("restore()", lambda: read.append(self.read(folder, also)))
        with understood(str(folder.path)):
            self.load(folder, *read[0], also)
        self.agreement.meet("restore()")
        return read[0][1][0]["note"]

    def enter(self, path: str | PathLike[str], also: Any) -> str:
        """Lock a folder against other jobs, unless it can only be read; return an id for a new run."""
        self.beside.checked(also)
        folder = self.folder(path)
        if self.rank == 0 and not folder.key:
            try:
                folder.probe(0)
            except CheckpointError as error:
                if not holds(path):
                    raise
                print(f"{error}, before save()", file=sys.stderr, flush=True)
            else:
                folder.lock(alone=False)
        return drawn()

    def read(self, folder: Folder, also: Any) -> tuple[Tensors, list[Facts]]:
        """Return this worker's part, or those of another number of workers merged, checked; change nothing."""
        where, first = str(folder.path), self.members[0]
        own = folder.workers == self.size
        if own:
            tensors, about = folder.read(self.rank)
            facts = [about]
        elif len(self.members) > 1:
            raise CheckpointError(
                f"{where} was written by {folder.workers} workers, and this run has {self.size}: what "
                "several optimizers saved together goes on with as many workers"
            )
        else:
            tensors, facts = merged(folder, first.loop.program.plan.strategy)
        for number, (member, about) in enumerate(zip(self.members, shares(facts[0]), strict=True)):
            member.check(of_member(tensors, number), about, where, own=own)
        with understood(where):
            self.beside.check(also, facts[0], where)
            facts[0]["note"]
        return tensors, facts

    def load(self, folder: Folder, tensors: Tensors, facts: list[Facts], also: Any) -> None:
        """Load everything that a checkpoint holds."""
        if folder.workers != self.size:
            self.members[0].rejoin(folder, tensors, facts)
        else:
            for number, (member, about) in enumerate(zip(self.members, shares(facts[0]), strict=True)):
                member.load(of_member(tensors, number), about, str(folder.path))
            self.beside.load_random_states(tensors, facts[0])
        self.beside.load(also, tensors, facts[0])


def shares(facts: Facts) -> list[Facts]:
    """Return what is JSON of every optimizer's share."""
    return [facts, *facts.get("others", [])]


def of_member(tensors: Tensors, number: int) -> Tensors:
    """Return the tensors of an optimizer's share, by their own names."""
    if not number:
        return tensors
    start = f"{number}/"
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def check_alike(name: str, values: list[Any], who: Callable[[int], str]) -> None:
    """Raise ValueError, on all workers, where the value of one is not that of worker 0."""
    for rank, each in enumerate(values):
        if each != values[0]:
            raise ValueError(
                f"{name} is {values[0]} on {who(0)} and {each} on {who(rank)}: say the same on all workers"
            )


def check_note(note: Any, name: str = "note") -> None:
    """Raise TypeError, which names it, for what JSON would not give back unchanged.

    Infinity may be in it, as Python's JSON keeps it: loops begin with it as the best score so far.
    """
    if note is None or type(note) in (bool, int, str):
        return
    if type(note) is float:
        if note != note:
            raise TypeError(
                f"{name} is nan, which equals nothing: save() keeps numbers that do; the rest goes into also="
            )
    elif type(note) is list:
        for place_, each in enumerate(note):
            check_note(each, f"{name}[{place_}]")
    elif type(note) is dict:
        for key, each in note.items():
            if type(key) is not str:
                raise TypeError(f"{name} has the key {key!r}: keys must be strings, for JSON would make it one")
            check_note(each, f"{name}[{key!r}]")
    else:
        scalar = " (its .item() is a number)" if hasattr(note, "item") else ""
        raise TypeError(
            f"{name} is of type {type(note).__name__}, which JSON does not give back unchanged: save() keeps "
            f"numbers, strings, lists, and dicts with strings as keys; the rest goes into also={scalar}"
        )
