"""How many backward passes have reached a parameter since the last step, and messages about too many."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any
from weakref import ref

if TYPE_CHECKING:
    from types import FrameType

    from torch import Tensor

    from loosestep.torch.flat import Slot

MEANWHILE = (
    "a loss that only passes through this model, as a GAN's generator's through its discriminator, leaves no "
    "gradient here with model.requires_grad_(False) before its backward() and model.requires_grad_(True) after it"
)
"""Advice on how to avoid gradients in a model that a loss only passes through."""

RECOMPUTED = (
    "torch.utils.checkpoint(use_reentrant=True) runs a backward pass of its own for each part that it recomputes, "
    "so a layer that is used several times is reached several times: say use_reentrant=False"
)


def count(slot: Slot) -> None:
    """Count a pass that has reached this parameter; from one again, if the gradient before was thrown away.

    zero_grad() of a model throws it away, by None or by zero: torch counts the writes to a gradient, and a pass
    makes one.
    """
    grad = slot.param.grad
    if grad is None:  # a hook of the user's took it
        slot.passes, slot.left = 0, None
        return
    slot.passes = slot.passes + 1 if goes_on(slot.left, grad) else 1
    slot.left = ref(grad), grad._version


def goes_on(before: tuple[ref[Tensor], int] | None, grad: Tensor) -> bool:
    """Return whether a gradient is that of the pass before with one pass added."""
    last: Any = before and before[0]()
    if before is None or last is not grad:
        return False
    writes: int = grad._version
    return writes <= before[1] + 1


def in_recomputation() -> bool:
    """Return whether a backward pass that torch.utils.checkpoint makes within another goes on in this thread."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "backward" and frame.f_globals.get("__name__") == "torch.utils.checkpoint":
            return True
        frame = frame.f_back
    return False


def too_many(slot: Slot, accumulate: int) -> str:
    """Return the message where there were more passes than a step has."""
    return (
        f"backward reached {slot.name!r} {slot.passes} times since the last step: say parallel(..., "
        f"accumulate={slot.passes}), which is {accumulate}, if so many make a step; {MEANWHILE}"
    )


def too_late(slot: Slot) -> str:
    """Return the message about a pass that comes when the gradient is being sent to the other workers."""
    start = (
        f"backward reached {slot.name!r} again, and its gradient is being sent to the other workers since the last"
    )
    if in_recomputation():
        return f"{start} pass: {RECOMPUTED}"
    return f"{start} pass, so that it can no longer be added to or thrown away: {MEANWHILE}"
