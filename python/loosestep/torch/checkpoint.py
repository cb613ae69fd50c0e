"""Checkpoints of a loop of the user's: one file a worker, written and read as those of `run`.

Whatever goes wrong on one worker is told to all before the checkpoint counts, so that all raise and go on alike.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any
from zlib import crc32

import torch
from torch import nn

from loosestep import ops
from loosestep.foundation import checks
from loosestep.foundation.buffers import here
from loosestep.foundation.errors import CheckpointError, Diverged
from loosestep.runtime.checkpoint.folder import KEEP, Folder, drawn, holds
from loosestep.runtime.checkpoint.newest import choose
from loosestep.runtime.checkpoint.resize import begin_anew, merged, say
from loosestep.runtime.checkpoint.state import check_place, place, understood
from loosestep.runtime.program import PARAMETERS
from loosestep.torch.contents import Rest, check_optimizer, into_optimizer, of_optimizer
from loosestep.torch.flat import plain
from loosestep.torch.meeting import Meeting
from loosestep.torch.state_dict import check_identity, restored, saved
from loosestep.transports.matching import stable_repr

if TYPE_CHECKING:
    from os import PathLike

    from loosestep.requests import Buffer
    from loosestep.runtime.checkpoint.folder import Facts, Part
    from loosestep.runtime.user_loop import Loop
    from loosestep.torch.changes import Changes
    from loosestep.torch.step_model import TorchModel

Tensors = dict[str, Any]
ADVICE = "call restore(folder) first to go on from it, or give another folder"


class Folders:
    """The checkpoint folders of one worker's loop, and what goes into them."""

    def __init__(
        self, model: nn.Module, changes: Changes, inner: torch.optim.Optimizer, loop: Loop, numbers: TorchModel
    ) -> None:
        self.changes, self.layout = changes, changes.layout
        self.inner, self.loop, self.numbers = inner, loop, numbers
        self.worker, self.rest, self.meeting = loop.worker, Rest(model, self.layout), Meeting(loop)
        self.known: dict[str, Folder] = {}

    def signature(self) -> Facts:
        """Another run's checkpoint is refused; `tensors` says what differs."""
        slots = self.layout.slots
        shapes = [(plain(slot.name), tuple(slot.param.shape), str(slot.param.dtype)) for slot in slots]
        params, shapes_are = self.worker.params, crc32(repr(shapes).encode())
        return {
            "strategy": stable_repr(self.loop.program.plan.strategy),
            "optimizer": type(self.inner).__name__,
            "workers": self.worker.size,
            "tensors": [[name, list(shape), kind.removeprefix("torch.")] for name, shape, kind in shapes],
            "parameters": f"{params.size} {params.dtype}, names, shapes and dtypes {shapes_are:08x}",
        }

    def folder(self, path: str | PathLike[str]) -> Folder:
        """The one that is known by this path, however it is spelled."""
        key = os.path.realpath(path)
        if key not in self.known:
            self.known[key] = Folder(path, self.signature(), resume=True, advice=ADVICE)
        return self.known[key]

    def close(self) -> None:
        """Let other jobs write to the folders."""
        for folder in self.known.values():
            folder.close()

    # --- writing -----------------------------------------------------------------------------------------

    def save(self, path: str | PathLike[str], note: Any, keep: int = KEEP) -> None:
        """All workers' parts, then the manifest that makes them count."""
        told = self.meeting.agree("save()", lambda: self.prepare(path, note, keep))
        check_alike("keep", [kept for *_, kept in told])
        folder = self.folder(path)
        folder.begin(told[0][1])
        step = max(clock for clock, *_ in told)
        try:
            parts = self.meeting.agree(
                "save()", lambda: folder.write(step, self.worker.rank, *self.part(note, step))
            )
        except Exception:
            if self.worker.rank == 0:
                folder.drop(step)
            raise
        try:
            self.meeting.agree("save()", lambda: self.commit(folder, step, parts))
        except BaseException:
            folder.fail(step)
            raise
        if self.worker.rank != 0:
            folder.follow(step)

    def prepare(self, path: str | PathLike[str], note: Any, keep: int) -> list[Any]:
        """What can be refused before anything is written; clock, an id for a new run, and keep."""
        self.changes.check()
        check_note(note)
        self.loop.position()
        folder = self.folder(path)
        folder.keep = checks.integer("keep", keep)
        if self.worker.rank == 0 and not folder.key:
            folder.probe(0)
            folder.lock(alone=False)
        folder.check_own()  # another optimizer of this script, or a job before the lock, may have written there
        if not self.numbers.finite():
            raise Diverged(self.worker.rank, self.worker.clock, what=PARAMETERS)
        return [self.worker.clock, drawn(), folder.keep]

    def commit(self, folder: Folder, step: int, parts: list[Part]) -> None:
        """It counts from now on: rank 0 says so."""
        if self.worker.rank == 0:
            folder.commit(step, parts, {})

    def part(self, note: Any, step: int) -> tuple[dict[str, Buffer], Facts]:
        """This worker's: parameters, strategy, optimizer, the rest of the model, random numbers."""
        state = saved(self.loop)
        kept = {name: tensor.numpy() for name, tensor in state.pop("tensors").items()}
        for name, values in kept.items():
            if not ops.all_finite(values):
                raise Diverged(self.worker.rank, step, what=f"the values of {name!r}")
        tensors: Tensors = {"params": here(self.worker.params), **kept}
        tensors |= {name: state.numpy() for name, state in self.random().items()}
        extra, optimizer = self.rest.save(tensors), of_optimizer(self.inner, tensors)
        return tensors, {**state, "optimizer": optimizer, "extra": extra, "note": note}

    def random(self) -> dict[str, torch.Tensor]:
        """The states of torch's generators of random numbers."""
        device = self.layout.slots[0].param.device
        of_card = {"random.card": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
        return {"random": torch.get_rng_state(), **of_card}

    def go_on_drawing(self, tensors: Tensors) -> None:
        torch.set_rng_state(torch.from_numpy(tensors["random"]))
        if "random.card" in tensors and "random.card" in self.random():
            device = self.layout.slots[0].param.device
            torch.cuda.set_rng_state(torch.from_numpy(tensors["random.card"]), device)

    # --- reading -----------------------------------------------------------------------------------------

    def restore(self, path: str | PathLike[str]) -> Any:
        """Go to the newest whole checkpoint, if there is one: its note."""
        runs = self.meeting.agree("restore()", lambda: self.enter(path))
        folder = self.folder(path)
        ranks = [self.worker.rank]
        found = choose(folder, ranks, lambda mine: self.meeting.tell("restore()", mine))
        folder.begin(runs[0])
        if found is None:
            return None
        read: list[tuple[Tensors, list[Facts]]] = []
        self.meeting.agree("restore()", lambda: read.append(self.read(folder)))
        with understood(str(folder.path)):
            self.bring_back(folder, *read[0])
        self.meeting.wait("restore()")
        return read[0][1][0]["note"]

    def enter(self, path: str | PathLike[str]) -> str:
        """Open a folder: others' jobs keep out, unless it can only be read. An id for a new run."""
        folder = self.folder(path)
        if self.worker.rank == 0 and not folder.key:
            try:
                folder.probe(0)
            except CheckpointError as error:
                if not holds(path):
                    raise
                print(f"{error}, before save()", file=sys.stderr, flush=True)
            else:
                folder.lock(alone=False)
        return drawn()

    def read(self, folder: Folder) -> tuple[Tensors, list[Facts]]:
        """Its own part, or what those of another number of workers make together; checked, and nothing changed."""
        where = str(folder.path)
        if folder.workers == self.worker.size:
            tensors, own = folder.read(self.worker.rank)
            facts = [own]
            with understood(where):
                check_identity(self.loop, own)
        else:
            tensors, facts = merged(folder, self.loop.program.plan.strategy)
        check_place(self.worker.params, tensors.get("params"), "params", where)
        with understood(where):
            self.rest.check(tensors, facts[0].get("extra", {}), where)
            check_optimizer(self.inner, facts[0]["optimizer"], where)
            facts[0]["note"]
        return tensors, facts

    def bring_back(self, folder: Folder, tensors: Tensors, facts: list[Facts]) -> None:
        """Everything goes to where the checkpoint stood."""
        if folder.workers == self.worker.size:
            place(self.worker.params, tensors["params"], "params", str(folder.path))
            self.go_on_drawing(tensors)
            state = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
            restored(self.loop, {**facts[0], "tensors": state})
        else:
            self.rejoin(folder, tensors, facts)
        self.rest.load(tensors, facts[0].get("extra", {}))
        into_optimizer(self.inner, tensors, facts[0]["optimizer"])

    def rejoin(self, folder: Folder, tensors: Tensors, facts: list[Facts]) -> None:
        """All begin alike, as far as the furthest; see resizing.py."""
        if self.worker.rank == 0:
            say(folder, self.loop.program.plan.strategy, self.worker.size)
        self.loop.settle()
        self.loop.program.enter(facts[0]["position"]["part"])
        begin_anew(self.loop.program, self.loop.joined.session, tensors["params"], str(folder.path))
        furthest = {name: max(told["position"][name] for told in facts) for name in facts[0]["position"]}
        self.meeting.wait("restore()")  # the new center is there
        self.loop.go_to({**furthest, "samples": 0, "progress": 0})


def check_alike(name: str, told: list[Any]) -> None:
    """Raise ValueError, on all workers, where one said something else than worker 0."""
    for rank, each in enumerate(told):
        if each != told[0]:
            raise ValueError(
                f"{name} is {told[0]} on worker 0 and {each} on worker {rank}: say the same on all workers"
            )


def check_note(note: Any, name: str = "note") -> None:
    """What is not the same after JSON would come back changed. Raises TypeError that names it."""
    if note is None or type(note) in (bool, int, str):
        return
    if type(note) is float:
        if note != note or note in (float("inf"), float("-inf")):
            raise TypeError(f"{name} is {note}, which JSON lacks: save() keeps finite numbers")
    elif type(note) is list:
        for place_, each in enumerate(note):
            check_note(each, f"{name}[{place_}]")
    elif type(note) is dict:
        for key, each in note.items():
            if type(key) is not str:
                raise TypeError(f"{name} has the key {key!r}: keys must be strings, for JSON would make it one")
            check_note(each, f"{name}[{key!r}]")
    else:
        raise TypeError(
            f"{name} is of type {type(note).__name__}, which JSON does not give back unchanged: save() keeps "
            "numbers, strings, lists, and dicts with strings as keys"
        )
