"""Means of gradients over workers: sent while backward() computes them, complete when it returns."""

from __future__ import annotations

import sys
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch

from loosestep.lowering.requests import RollCall
from loosestep.requests import AllReduce, Gradient, Ready, Update
from loosestep.torch.gradients import backward_passes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from loosestep.runtime.agreement.meeting import Agreement
    from loosestep.runtime.user_loop import Loop
    from loosestep.torch.flat import Slot
    from loosestep.torch.gradients.step_model import TorchModel


THROWN_AWAY = "zero_grad(), or the end of the loop, between backward() and step()"


class Averages:
    """What backward() sends of one worker's gradients, and what becomes of them until step().

    `final`: the gradients at hand are means over all workers, which step() has not used yet. The user may write
    them, as clipping does, or throw them away.
    """

    def __init__(self, loop: Loop, model: TorchModel, agreement: Agreement) -> None:
        self.loop, self.model, self.layout, self.agreement = loop, model, model.layout, agreement
        self.alone = loop.worker.size == 1  # then there is nothing to send
        self.final = False
        self.joined = False  # a pass has added to them since they were complete
        self.ends_with = -1  # the engine's number of the backward pass at whose end they are completed

    def arrived(self, slot: Slot, param: nn.Parameter) -> None:
        """Note that a backward pass has added to a gradient, and send what is complete."""
        if self.layout.away:
            return
        if self.final and self.joins(slot):
            self.complete_at_end()
            return
        early = self.model.arrive(slot)
        if self.alone:
            return
        if early:
            self.send()
        if type(self.loop.pending) is not Gradient and self.model.is_last_pass():
            self.complete_at_end()

    def send(self) -> None:
        """Begin what can be begun while backward() goes on."""
        with self.model.flat() if type(self.loop.pending) is RollCall else nullcontext():  # rounds read parameters
            self.loop.perform_early(self.model.may_perform)

    def complete_at_end(self) -> None:
        """Ask torch's engine for a call at the end of this backward pass."""
        task = backward_passes.number_of_task()
        if task != self.ends_with:
            self.ends_with = task
            torch.autograd.Variable._execution_engine.queue_callback(self.pass_ended)

    def pass_ended(self) -> None:
        """Complete the means that are being sent, unless this pass is a part of another one that goes on."""
        if self.final:
            if self.joined:
                self.average_again()
            return
        self.send()  # where each parameter was reached by some of the passes only, nothing has begun
        sending = type(self.loop.pending) is Ready or self.model.sent
        if sending and not (self.model.lacks_any() and backward_passes.is_nested()):
            self.complete()

    def complete(self, *, late: bool = False) -> None:
        """Go on to where the gradients are what the optimizer is to see; `late`, after the end of backward()."""
        if self.final:
            return
        if type(self.loop.pending) is RollCall:
            self.send()  # as far as to what follows it
        pending, model = self.loop.pending, self.model
        averaged = not self.alone and (type(pending) is Ready or bool(model.sent))
        if averaged and late:
            model.check_unwritten()
        with nullcontext() if type(pending) is Update else model.flat():
            self.loop.to_update()
        if model.sent:
            model.check_sent()
        if model.lent:
            model.hand_back()
        if averaged:
            self.final = True
            model.note_gradients()

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Let backward passes inside the block not be the last of their step; the next one after it is."""
        model = self.model
        model.last_pass = sys.maxsize
        try:
            yield
        finally:
            model.last_pass = 1 + (model.passes.number if model.passes.first >= 0 else 0)

    # --- passes after the means were complete ----------------------------------------------------------------

    def joins(self, slot: Slot) -> bool:
        """Return whether a pass belongs to the step whose means are complete, and not to another one.

        It does where no pass had reached the parameter before, as with losses of separate parts of a model. It
        begins another step where the user has thrown the means away. Raises RuntimeError for what is neither.
        """
        kept = backward_passes.goes_on(slot.left, slot.param.grad)
        if slot.left is None or (kept and slot.passes > 0):
            raise RuntimeError(backward_passes.too_late(slot))
        if not kept:
            self.discard()
        self.joined = kept
        return kept

    def average_again(self) -> None:
        """Average all gradients once more: the means that were complete stay what they are."""
        self.joined = False
        self.meet("a backward pass after the first of a step")
        model, worker = self.model, self.loop.worker
        model.complete(self.layout.slots)
        self.loop.connection.run_unmetered([AllReduce(worker.grad, op="mean", weight=worker.samples)])
        model.hand_back()
        model.note_gradients()

    # --- gradients that no step uses -----------------------------------------------------------------------

    def throw_away(self) -> None:
        """Let the gradients at hand count for no step. Raises RuntimeError where a step is half made."""
        if self.final:
            self.discard()
        elif self.model.begun and (not self.alone or self.model.copies):
            raise RuntimeError(
                "zero_grad() between backward() and step() erases gradients that are being sent to the other "
                f"workers: call skip() in place of step() to leave a step out; {backward_passes.MEANWHILE}"
            )

    def discard(self) -> None:
        """Let the means at hand count for no step; all workers do, or Mismatch says that one does not."""
        self.meet(THROWN_AWAY)
        self.model.take_back()
        self.model.skipping, self.final = True, False
        self.loop.perform()
        with self.model.flat():
            self.loop.finish()

    def meet(self, what: str) -> None:
        """Block until all workers throw away the same means; each may throw away what is its own alone."""
        if self.final:
            with self.agreement.call(what):
                self.agreement.meet(what)

    def leave(self) -> None:
        """Let the end of the data make no step with gradients that the user has not used."""
        if self.final:
            self.meet(THROWN_AWAY)  # others may throw the same means away to begin another step
            self.model.skipping, self.final = True, False
