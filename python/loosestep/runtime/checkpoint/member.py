"""One optimizer's share of a checkpoint: parameters, strategy, and what its framework holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol
from zlib import crc32

from loosestep.foundation.buffers import here
from loosestep.foundation.errors import Diverged
from loosestep.runtime.checkpoint.loop_state import check_identity, restored, saved
from loosestep.runtime.checkpoint.resize import begin_anew, report_resize
from loosestep.runtime.checkpoint.state import check_finite, check_place, place, understood
from loosestep.runtime.program import PARAMETERS
from loosestep.transports.matching import stable_repr

if TYPE_CHECKING:
    from loosestep.runtime.agreement.base import Meeting
    from loosestep.runtime.checkpoint.folder import Facts, Folder

Tensors = dict[str, Any]


class Contents(Protocol):
    """What a framework holds for one optimizer besides the flat parameters."""

    def kind(self) -> str:
        """Return the optimizer's name."""

    def shapes(self) -> list[tuple[str, tuple[int, ...], str]]:
        """Return (name, shape, dtype) of every parameter."""

    def count(self) -> int:
        """Return how many numbers the parameters are."""

    def check_unchanged(self) -> None:
        """Raise RuntimeError where parameters are no longer those of the beginning."""

    def save(self, tensors: Tensors) -> Facts:
        """Put arrays into `tensors`, and return the rest as JSON."""

    def check(self, tensors: Tensors, facts: Facts, where: str) -> None:
        """Refuse what cannot be loaded here, before anything is changed."""

    def load(self, tensors: Tensors, facts: Facts) -> None:
        """Load what `save` gave."""


class Member:
    """One optimizer's share of a checkpoint, by names of its own."""

    def __init__(self, contents: Contents, agreement: Meeting) -> None:
        self.contents, self.agreement = contents, agreement
        self.loop, self.worker = agreement.loop, agreement.worker

    def signature(self) -> Facts:
        """Return what a checkpoint must have in common with this run; `tensors` lets an error say what differs."""
        shapes = self.contents.shapes()
        params, shapes_are = self.worker.params, crc32(repr(shapes).encode())
        return {
            "strategy": stable_repr(self.loop.program.plan.strategy),
            "optimizer": self.contents.kind(),
            "tensors": [[name, list(shape), kind.removeprefix("torch.")] for name, shape, kind in shapes],
            "parameters": f"{self.contents.count()} {params.dtype}, names, shapes and dtypes {shapes_are:08x}",
        }

    # --- writing -----------------------------------------------------------------------------------------

    def check_ready(self) -> None:
        """Raise RuntimeError where it cannot be saved now."""
        self.contents.check_unchanged()
        self.loop.position()

    def check_finite(self) -> None:
        """Raise Diverged where parameters, or what the optimizer keeps of them, are not finite."""
        if not self.loop.model.finite():
            raise Diverged(self.worker.rank, self.worker.clock, what=PARAMETERS)

    def part(self, step: int) -> tuple[Tensors, Facts]:
        """Return this worker's share of a checkpoint."""
        state = saved(self.loop)
        kept = state.pop("tensors")
        check_finite(kept, self.loop.program, step)
        tensors: Tensors = {"params": here(self.worker.params), **kept}
        return tensors, {**state, **self.contents.save(tensors)}

    # --- reading -----------------------------------------------------------------------------------------

    def check(self, tensors: Tensors, facts: Facts, where: str, *, own: bool) -> None:
        """Refuse what cannot be loaded here, before anything is changed. `own`: it is this worker's share."""
        with understood(where):
            if own:
                check_identity(self.loop, facts)
        check_place(self.worker.params, tensors.get("params"), "params", where)
        with understood(where):
            self.contents.check(tensors, facts, where)

    def load(self, tensors: Tensors, facts: Facts, where: str) -> None:
        """Go on where this worker's share stood."""
        place(self.worker.params, tensors["params"], "params", where)
        restored(self.loop, {**facts, "tensors": tensors})
        self.contents.load(tensors, facts)

    def rejoin(self, folder: Folder, tensors: Tensors, facts: list[Facts]) -> None:
        """Let all workers begin alike, as far as the furthest; see runtime/checkpoint/resize.py."""
        if self.worker.rank == 0:
            report_resize(folder, self.loop.program.plan.strategy, self.worker.size)
        furthest = {name: max(part["position"][name] for part in facts) for name in facts[0]["position"]}
        position = {**furthest, "samples": 0, "progress": 0, "inside": False}
        self.begin_again(tensors, position, "restore()", str(folder.path))
        self.contents.load(tensors, facts[0])

    def begin_again(self, tensors: Tensors, position: Facts, what: str, where: str) -> None:
        """Go to a position with those parameters, the state that the strategy makes for them, what it keeps."""
        self.loop.drain()
        self.loop.program.enter(position["part"])
        begin_anew(self.loop.program, self.loop.connection.session, tensors, where)
        self.agreement.meet(what)  # a new center is set
        self.loop.go_to(position)
