"""Checkpoints of a user's loop: one file a worker, written and read as those of `run`.

All workers learn of what goes wrong on one before the checkpoint counts, so that all raise, and go on, alike.
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
from loosestep.runtime.checkpoint.resize import begin_anew, merged, report_resize
from loosestep.runtime.checkpoint.resume_point import choose
from loosestep.runtime.checkpoint.state import check_place, place, understood
from loosestep.runtime.program import PARAMETERS
from loosestep.torch.agreement import Agreement
from loosestep.torch.flat import plain
from loosestep.torch.run_state import check_identity, restored, saved
from loosestep.torch.serialize import UntrainedState, check_optimizer, load_optimizer, save_optimizer
from loosestep.transports.matching import stable_repr

if TYPE_CHECKING:
    from os import PathLike

    from loosestep.requests import Buffer
    from loosestep.runtime.checkpoint.folder import Facts, Part
    from loosestep.runtime.user_loop import Loop
    from loosestep.torch.gradients.step_model import TorchModel
    from loosestep.torch.tracked_parameters import TrackedParameters

Tensors = dict[str, Any]
ADVICE = "call restore(folder) first to go on from it, or give another folder"


class Checkpoints:
    """The checkpoint folders of one worker's loop, and what is written to them."""

    def __init__(
        self,
        model: nn.Module,
        tracked: TrackedParameters,
        inner: torch.optim.Optimizer,
        loop: Loop,
        numbers: TorchModel,
    ) -> None:
        self.tracked, self.layout = tracked, tracked.layout
        self.inner, self.loop, self.numbers = inner, loop, numbers
        self.worker, self.agreement = loop.worker, Agreement(loop)
        self.untrained = UntrainedState(model, self.layout)
        self.known: dict[str, Folder] = {}

    def signature(self) -> Facts:
        """Return what a checkpoint must have in common with this run; `tensors` lets an error say what differs."""
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
        """Return the folder at this path, one however the path is spelled."""
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
        """Write all workers' parts, then the manifest that makes them count."""
        prepared = self.agreement.all_or_none("save()", lambda: self.prepare(path, note, keep))
        check_alike("keep", [kept for *_, kept in prepared])
        folder = self.folder(path)
        folder.begin(prepared[0][1])
        step = max(clock for clock, *_ in prepared)
        try:
            parts = self.agreement.all_or_none(
                "save()", lambda: folder.write(step, self.worker.rank, *self.part(note, step))
            )
        except Exception:
            if self.worker.rank == 0:
                folder.drop(step)
            raise
        try:
            self.agreement.all_or_none("save()", lambda: self.commit(folder, step, parts))
        except BaseException:
            folder.fail(step)
            raise
        if self.worker.rank != 0:
            folder.follow(step)

    def prepare(self, path: str | PathLike[str], note: Any, keep: int) -> list[Any]:
        """Refuse what can be refused before anything is written; return clock, an id for a new run, and keep."""
        self.tracked.check()
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
        """Let the checkpoint count: rank 0 writes its manifest."""
        if self.worker.rank == 0:
            folder.commit(step, parts, {})

    def part(self, note: Any, step: int) -> tuple[dict[str, Buffer], Facts]:
        """Return this worker's part: parameters, strategy, optimizer, the rest of the model, random numbers."""
        state = saved(self.loop)
        kept = {name: tensor.numpy() for name, tensor in state.pop("tensors").items()}
        for name, values in kept.items():
            if not ops.all_finite(values):
                raise Diverged(self.worker.rank, step, what=f"the values of {name!r}")
        tensors: Tensors = {"params": here(self.worker.params), **kept}
        tensors |= {name: state.numpy() for name, state in self.random_states().items()}
        extra, optimizer = self.untrained.save(tensors), save_optimizer(self.inner, tensors)
        return tensors, {**state, "optimizer": optimizer, "extra": extra, "note": note}

    def random_states(self) -> dict[str, torch.Tensor]:
        """Return the states of torch's generators of random numbers."""
        device = self.layout.slots[0].param.device
        of_device = {"random.card": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {}
        return {"random": torch.get_rng_state(), **of_device}

    def set_random_states(self, tensors: Tensors) -> None:
        """Let torch go on drawing where the checkpoint stood."""
        torch.set_rng_state(torch.from_numpy(tensors["random"]))
        if "random.card" in tensors and "random.card" in self.random_states():
            device = self.layout.slots[0].param.device
            torch.cuda.set_rng_state(torch.from_numpy(tensors["random.card"]), device)

    # --- reading -----------------------------------------------------------------------------------------

    def restore(self, path: str | PathLike[str]) -> Any:
        """Go to the newest whole checkpoint, and return its note; None where there is no checkpoint."""
        runs = self.agreement.all_or_none("restore()", lambda: self.enter(path))
        folder = self.folder(path)
        ranks = [self.worker.rank]
        found = choose(folder, ranks, lambda mine: self.agreement.all_gather("restore()", mine))
        folder.begin(runs[0])
        if found is None:
            return None
        read: list[tuple[Tensors, list[Facts]]] = []
        self.agreement.all_or_none("restore()", lambda: read.append(self.read(folder)))
        with understood(str(folder.path)):
            self.load(folder, *read[0])
        self.agreement.barrier("restore()")
        return read[0][1][0]["note"]

    def enter(self, path: str | PathLike[str]) -> str:
        """Lock a folder against other jobs, unless it can only be read; return an id for a new run."""
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
        """Return this worker's part, or those of another number of workers merged, checked; change nothing."""
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
            self.untrained.check(tensors, facts[0].get("extra", {}), where)
            check_optimizer(self.inner, facts[0]["optimizer"], where)
            facts[0]["note"]
        return tensors, facts

    def load(self, folder: Folder, tensors: Tensors, facts: list[Facts]) -> None:
        """Load everything that a checkpoint holds."""
        if folder.workers == self.worker.size:
            place(self.worker.params, tensors["params"], "params", str(folder.path))
            self.set_random_states(tensors)
            state = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
            restored(self.loop, {**facts[0], "tensors": state})
        else:
            self.rejoin(folder, tensors, facts)
        self.untrained.load(tensors, facts[0].get("extra", {}))
        load_optimizer(self.inner, tensors, facts[0]["optimizer"])

    def rejoin(self, folder: Folder, tensors: Tensors, facts: list[Facts]) -> None:
        """Let all workers begin alike, as far as the furthest; see runtime/checkpoint/resize.py."""
        if self.worker.rank == 0:
            report_resize(folder, self.loop.program.plan.strategy, self.worker.size)
        self.loop.drain()
        self.loop.program.enter(facts[0]["position"]["part"])
        begin_anew(self.loop.program, self.loop.connection.session, tensors["params"], str(folder.path))
        furthest = {name: max(part["position"][name] for part in facts) for name in facts[0]["position"]}
        self.agreement.barrier("restore()")  # the new center is set
        self.loop.go_to({**furthest, "samples": 0, "progress": 0})


def check_alike(name: str, values: list[Any]) -> None:
    """Raise ValueError, on all workers, where the value of one is not that of worker 0."""
    for rank, each in enumerate(values):
        if each != values[0]:
            raise ValueError(
                f"{name} is {values[0]} on worker 0 and {each} on worker {rank}: say the same on all workers"
            )


def check_note(note: Any, name: str = "note") -> None:
    """Raise TypeError, which names it, for what JSON would not give back unchanged."""
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
