"""One optimizer's share of a checkpoint: parameters, strategy, optimizer, and the rest of its model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

import torch

from loosestep import ops
from loosestep.foundation.buffers import here
from loosestep.foundation.errors import Diverged
from loosestep.runtime.checkpoint.resize import begin_anew, report_resize
from loosestep.runtime.checkpoint.state import check_place, place, understood
from loosestep.runtime.program import PARAMETERS
from loosestep.torch.flat import plain
from loosestep.torch.saving.run_state import check_identity, restored, saved
from loosestep.torch.saving.serialize import UntrainedState, check_optimizer, load_optimizer, save_optimizer
from loosestep.transports.matching import stable_repr

if TYPE_CHECKING:
    from torch import nn

    from loosestep.runtime.checkpoint.folder import Facts, Folder
    from loosestep.torch.agreement.meeting import Agreement
    from loosestep.torch.gradients.step_model import TorchModel
    from loosestep.torch.tracked_parameters import TrackedParameters

Tensors = dict[str, Any]


class Member:
    """One optimizer's share of a checkpoint, by names of its own."""

    def __init__(
        self,
        model: nn.Module,
        tracked: TrackedParameters,
        inner: torch.optim.Optimizer,
        agreement: Agreement,
        numbers: TorchModel,
    ) -> None:
        self.tracked, self.layout = tracked, tracked.layout
        self.inner, self.numbers, self.agreement = inner, numbers, agreement
        self.loop, self.worker = agreement.loop, agreement.worker
        self.untrained = UntrainedState(model, self.layout)

    @property
    def device(self) -> torch.device:
        """Return where its parameters are."""
        found: torch.device = self.layout.slots[0].param.device
        return found

    def signature(self) -> Facts:
        """Return what a checkpoint must have in common with this run; `tensors` lets an error say what differs."""
        slots = self.layout.slots
        shapes = [(plain(slot.name), tuple(slot.param.shape), str(slot.param.dtype)) for slot in slots]
        params, shapes_are = self.worker.params, crc32(repr(shapes).encode())
        return {
            "strategy": stable_repr(self.loop.program.plan.strategy),
            "optimizer": type(self.inner).__name__,
            "tensors": [[name, list(shape), kind.removeprefix("torch.")] for name, shape, kind in shapes],
            "parameters": f"{params.size} {params.dtype}, names, shapes and dtypes {shapes_are:08x}",
        }

    # --- writing -----------------------------------------------------------------------------------------

    def check_finite(self) -> None:
        """Raise Diverged where parameters, or what the optimizer keeps of them, are not finite."""
        if not self.numbers.finite():
            raise Diverged(self.worker.rank, self.worker.clock, what=PARAMETERS)

    def part(self, step: int) -> tuple[Tensors, Facts]:
        """Return this worker's share of a checkpoint."""
        state = saved(self.loop)
        kept = {name: tensor.numpy() for name, tensor in state.pop("tensors").items()}
        for name, values in kept.items():
            if not ops.all_finite(values):
                raise Diverged(self.worker.rank, step, what=f"the values of {name!r}")
        tensors: Tensors = {"params": here(self.worker.params), **kept}
        extra, optimizer = self.untrained.save(tensors), save_optimizer(self.inner, tensors)
        return tensors, {**state, "optimizer": optimizer, "extra": extra}

    # --- reading -----------------------------------------------------------------------------------------

    def check(self, tensors: Tensors, facts: Facts, where: str, *, own: bool) -> None:
        """Refuse what cannot be loaded here, before anything is changed. `own`: it is this worker's share."""
        with understood(where):
            if own:
                check_identity(self.loop, facts)
        check_place(self.worker.params, tensors.get("params"), "params", where)
        with understood(where):
            self.untrained.check(tensors, facts.get("extra", {}), where)
            check_optimizer(self.inner, facts["optimizer"], where)

    def load(self, tensors: Tensors, facts: Facts, where: str) -> None:
        """Go on where this worker's share stood."""
        place(self.worker.params, tensors["params"], "params", where)
        state = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
        restored(self.loop, {**facts, "tensors": state})
        self.load_rest(tensors, facts)

    def load_rest(self, tensors: Tensors, facts: Facts) -> None:
        """Load the optimizer, and what the model holds besides."""
        self.untrained.load(tensors, facts.get("extra", {}))
        load_optimizer(self.inner, tensors, facts["optimizer"])

    def rejoin(self, folder: Folder, tensors: Tensors, facts: list[Facts]) -> None:
        """Let all workers begin alike, as far as the furthest; see runtime/checkpoint/resize.py."""
        if self.worker.rank == 0:
            report_resize(folder, self.loop.program.plan.strategy, self.worker.size)
        furthest = {name: max(part["position"][name] for part in facts) for name in facts[0]["position"]}
        position = {**furthest, "samples": 0, "progress": 0, "inside": False}
        self.begin_again(tensors["params"], position, "restore()", str(folder.path))
        self.load_rest(tensors, facts[0])

    def begin_again(self, params: Any, position: Facts, what: str, where: str) -> None:
        """Go to a position with those parameters, and the state that the strategy makes for them."""
        self.loop.drain()
        self.loop.program.enter(position["part"])
        begin_anew(self.loop.program, self.loop.connection.session, params, where)
        self.agreement.meet(what)  # a new center is set
        self.loop.go_to(position)
