"""What a torch model and its optimizer hold, as a checkpoint keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loosestep.torch.flat import plain
from loosestep.torch.saving.serialize import UntrainedState, check_optimizer, load_optimizer, save_optimizer

if TYPE_CHECKING:
    import torch
    from torch import nn

    from loosestep.runtime.checkpoint.folder import Facts
    from loosestep.torch.tracked_parameters import TrackedParameters

Tensors = dict[str, Any]


class TorchContents:
    """The optimizer's state, and what the model holds besides trained parameters."""

    def __init__(self, model: nn.Module, tracked: TrackedParameters, inner: torch.optim.Optimizer) -> None:
        self.tracked, self.layout, self.inner = tracked, tracked.layout, inner
        self.untrained = UntrainedState(model, self.layout)
        self.order = {param: place for place, param in enumerate(model.parameters())}

    def kind(self) -> str:
        """Return the optimizer's name."""
        return type(self.inner).__name__

    def shapes(self) -> list[tuple[str, tuple[int, ...], str]]:
        """Return (name, shape, dtype) of every parameter."""
        slots = self.layout.slots
        return [(plain(slot.name), tuple(slot.param.shape), str(slot.param.dtype)) for slot in slots]

    def count(self) -> int:
        """Return how many numbers the flat buffer of the parameters has."""
        return self.layout.params.size

    def check_unchanged(self) -> None:
        """Raise RuntimeError where parameters are no longer those of the beginning."""
        self.tracked.check()

    def save(self, tensors: Tensors) -> Facts:
        """Put arrays into `tensors`, and return the rest as JSON."""
        extra = self.untrained.save(tensors)
        return {"optimizer": save_optimizer(self.inner, tensors, self.order), "extra": extra}

    def check(self, tensors: Tensors, facts: Facts, where: str) -> None:
        """Refuse what cannot be loaded here, before anything is changed."""
        self.untrained.check(tensors, facts.get("extra", {}), where)
        check_optimizer(self.inner, facts["optimizer"], where)

    def load(self, tensors: Tensors, facts: Facts) -> None:
        """Load what `save` gave."""
        self.untrained.load(tensors, facts.get("extra", {}))
        load_optimizer(self.inner, tensors, facts["optimizer"], self.order)
