"""How many backward passes have reached a parameter since the last step, and messages about too many."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any
from weakref import ref

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator
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


def goes_on(before: tuple[ref[Tensor], int] | None, grad: Tensor | None) -> bool:
    """Return whether a gradient is that of the pass before with one pass added."""
    last: Any = before and before[0]()
    if before is None or grad is None or last is not grad:
        return False
    writes: int = grad._version
    return writes <= before[1] + 1


def is_written(slot: Slot) -> bool:
    """Return whether the gradient that the last pass left has been written since."""
    last: Any = slot.left and slot.left[0]()
    return slot.left is not None and last is slot.param.grad is not None and last._version != slot.left[1]


class Passes:
    """How many backward passes there were since the last step, whatever parameters each has reached.

    Passes that run within others, as those of torch.utils.checkpoint(use_reentrant=True), are parts of them. The
    engine numbers passes in the order in which they begin.
    """

    def __init__(self) -> None:
        self.number = 0
        self.first = -1  # the engine's number of the outermost one that is known; -1 before the first of a step
        self.task = -1  # of the last one that reached a parameter

    def note(self, slot: Slot) -> None:
        """Note that the pass which goes on has reached a parameter."""
        task = number_of_task()
        if self.first < 0:
            self.number, self.first = 1, task
        elif task > self.first and task != self.task and not is_nested():
            self.number, self.first = self.number + 1, task
        self.first, self.task = min(self.first, task), task
        self.number = max(self.number, slot.passes)


def number_of_task() -> int:
    """Return the engine's number of the backward pass that goes on."""
    return int(torch._C._current_graph_task_id())


def frames() -> Iterator[tuple[str, str]]:
    """Yield (module, function) of the calls that go on in this thread, from here outwards."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame.f_globals.get("__name__", ""), frame.f_code.co_name
        frame = frame.f_back


def is_nested() -> bool:
    """Return whether the backward pass that goes on in this thread was begun by a node of another one."""
    inside = False
    for module, function in frames():
        if inside and (module, function) == ("torch.autograd.function", "apply"):
            return True
        inside = inside or (module == "torch.autograd" and function in ("backward", "grad"))
    return False


def in_recomputation() -> bool:
    """Return whether a backward pass that torch.utils.checkpoint makes within another goes on in this thread."""
    return ("torch.utils.checkpoint", "backward") in frames()


def too_many(slot: Slot, accumulate: int) -> str:
    """Return the message where there were more passes than a step has."""
    return (
        f"backward reached {slot.name!r} {slot.passes} times since the last step: say parallel(..., "
        f"accumulate={slot.passes}), which is {accumulate}, if so many make a step; {MEANWHILE}"
    )


def too_late(slot: Slot) -> str:
    """Return the message about a pass that comes when the gradient is being sent, or is a mean, and is at hand."""
    start = (
        f"backward reached {slot.name!r} again, and its gradient is being sent to the other workers since the last"
    )
    if in_recomputation():
        return f"{start} pass: {RECOMPUTED}"
    return (
        f"{start} pass, so that it can no longer be added to: say parallel(..., accumulate=2) if two passes make "
        f"a step, or zero_grad() between them if the first counts for none; {MEANWHILE}"
    )


def written_early(slot: Slot, passes: int, accumulate: int) -> str:
    """Return the message about a local gradient that was written before it met those of other workers."""
    return (
        f"the gradient of {slot.name!r} was changed before it was averaged: {passes} backward passes came before "
        f"this step, and accumulate={accumulate}, so backward() could not know that the last one was over: call "
        "optimizer.synchronize() before you clip or unscale, or let all steps have as many passes"
    )
