"""One worker's gradients and updates, made by the user's own backward passes and torch optimizer."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import ref

import torch
from torch import Tensor

from loosestep import ops
from loosestep.lowering.requests import RollCall
from loosestep.requests import Gradient, Ready, Update
from loosestep.runtime.program import GRADIENT
from loosestep.runtime.user_loop import UserFeed
from loosestep.torch.device_buffer import buffer_of
from loosestep.torch.flat import in_memory_order
from loosestep.torch.gradients import backward_passes
from loosestep.torch.gradients.copies import clear, copy_gradient, give_back

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from loosestep.requests import Bucket, Buffer, Proximal, Request
    from loosestep.requests.worker import Worker
    from loosestep.strategies.base import Strategy
    from loosestep.torch.flat import Layout, Slot


Seen = tuple["Tensor | None", int]


class TorchModel:
    """Performs `Gradient`, `Ready` and `Update` for one worker.

    A step of a worker that is in its loop weighs 1 in averages, whatever its batch; its rows, where the library
    deals them by speed. Gradients stay where torch made them, unless the strategy itself asks for one: then they
    are copied into the flat buffer. There a parameter that no backward pass reached has gradient zero; torch
    leaves it out of an update that is local.
    """

    native: ClassVar[frozenset[type[Request]]] = frozenset({Gradient, Ready, Update})

    def __init__(
        self, layout: Layout, worker: Worker, inner: torch.optim.Optimizer, strategy: Strategy, accumulate: int
    ) -> None:
        self.layout, self.worker, self.inner = layout, worker, inner
        self.synchronous = lambda: strategy.synchronous  # of a schedule, its part
        self.accumulate = self.last_pass = accumulate  # no_sync() lets a step have another number of passes
        self.rows: int | None = None  # of the next batch, where the library chose it
        self.copies = worker.size > 1 or not strategy.identity_at_one
        self.has_casts = layout.has_casts and self.copies
        # One worker alone whose strategy is the identity moves nothing: its steps need no flat parameters.
        self.flat: Callable[[], AbstractContextManager[None]] = layout.flat if self.copies else nullcontext
        self.feed = UserFeed()
        self.samples = self.steps = self.updates = 0
        self.losses = (0.0, 0)
        self.begun = False  # a gradient was taken that no update has used
        self.idle = False  # the gradient holds nothing of this worker
        self.skipping = False  # the gradient overflowed
        self.fresh: list[Slot] = []  # arrived before a bucket was asked for
        self.missing: set[Slot] | None = None  # what has not arrived, of the bucket that is asked for
        self.lent: set[Slot] = set()  # cast and sparse gradients whose values are in the flat one
        self.touched: dict[Bucket, list[Slot]] = {}
        self.sent: dict[Slot, Seen] = {}  # the gradient when others began to read it
        self.passes = backward_passes.Passes()
        self.taken = 0  # what the gradient at hand weighs
        worker.rate_at = self.rate
        self.handlers: dict[type[Request], Callable[[Any], None]] = {
            Gradient: self.gradient,
            Ready: self.ready,
            Update: self.update,
        }

    # --- gradients ---------------------------------------------------------------------------------------

    def arrive(self, slot: Slot) -> bool:
        """Note that a backward pass has added to this gradient, and return whether more may be asked for now."""
        before = slot.passes
        backward_passes.count(slot)
        self.passes.note(slot)
        if slot in self.sent:
            raise RuntimeError(backward_passes.too_late(slot))
        if slot.passes <= before:  # what was cast of an earlier gradient is thrown away with it
            self.lent.discard(slot)
        if slot.passes > self.last_pass:
            self.allow_recomputation(slot)
            return False
        if slot.passes < self.last_pass:
            return False
        if self.missing is None:
            self.fresh.append(slot)
            return True
        if self.copies:  # while it is warm
            self.take(slot)
            slot.left = ref(slot.param.grad), slot.param.grad._version
        self.missing.discard(slot)
        return not self.missing

    def is_last_pass(self) -> bool:
        """Return whether the backward pass that goes on is the last of this step."""
        return self.passes.number >= self.last_pass

    def lacks_any(self) -> bool:
        """Return whether the last pass has not reached all that is trained."""
        return any(slot.passes < self.last_pass and slot.param.requires_grad for slot in self.layout.slots)

    def allow_recomputation(self, slot: Slot) -> None:
        """Refuse one pass more than a step has, but where torch made it, and nothing is sent before step()."""
        if not backward_passes.in_recomputation():
            raise RuntimeError(backward_passes.too_many(slot, self.last_pass))
        if self.begun or self.missing is not None:
            raise RuntimeError(backward_passes.too_late(slot))
        slot.passes = self.last_pass

    def may_perform(self, request: Request) -> bool:
        """Return whether a request can be performed while backward goes on."""
        if isinstance(request, Ready):
            return self.is_filled(request)
        if isinstance(request, RollCall):
            return True
        return self.begun or not self.has_casts  # before it the user may still write parameters

    def is_filled(self, request: Ready) -> bool:
        """Return whether every gradient of that bucket has arrived."""
        if self.missing is None:
            slots = self.slots_of(request.bucket)
            self.missing = {slot for slot in slots if slot.passes < self.last_pass}
            self.complete(self.fresh)
            self.fresh.clear()
        return not self.missing

    def slots_of(self, bucket: Bucket) -> list[Slot]:
        if bucket not in self.touched:
            self.touched[bucket] = self.layout.in_bucket(bucket.grad)
        return self.touched[bucket]

    def ready(self, request: Ready) -> None:
        """Complete a bucket, which is then sent."""
        if request.bucket.index == 0:
            self.begin()
        self.missing = None
        slots = self.slots_of(request.bucket)
        self.complete(slots)
        for slot in slots if self.worker.size > 1 else ():
            self.sent[slot] = seen(slot)

    def finite(self) -> bool:
        """Return whether parameters, and what the optimizer keeps of the same shape, are finite."""
        kept = [
            value._values() if value.is_sparse else value  # as SGD's momentum of a sparse gradient
            for slot in self.layout.slots
            for value in self.inner.state.get(slot.param, {}).values()
            if isinstance(value, Tensor) and value.shape == slot.param.shape and value.is_floating_point()
        ]
        return ops.all_finite(self.layout.params) and all(bool(torch.isfinite(value).all()) for value in kept)

    def gradient(self, request: Gradient) -> None:
        """Take the gradient as the user's backward passes left it."""
        self.begin()
        if request is not GRADIENT:
            self.complete(self.layout.slots)

    def begin(self) -> None:
        """Count one step of this worker."""
        worker = self.worker
        if self.begun:
            raise TypeError("a loop of your own makes one gradient a step, and the strategy asks for two: use run")
        self.begun, self.idle, self.taken = True, self.feed.closed, 0
        worker.clock += 1
        if self.idle:
            return
        rows, self.rows = self.rows, None
        if rows is None and worker.fractions is not None:
            raise TypeError(
                "batches whose sizes follow the workers' speeds are those of optimizer.shard(...) alone"
            )
        self.taken = rows or 1
        worker.samples += self.taken
        self.samples += self.taken
        self.steps += 1

    def take_back(self) -> None:
        """Let the gradient at hand count for no step."""
        self.worker.clock -= 1
        self.worker.samples -= self.taken
        self.samples -= self.taken
        self.steps -= self.taken > 0
        if self.worker.fractions is not None:
            self.rows = self.taken

    def complete(self, slots: list[Slot]) -> None:
        """Let gradients be zero that backward did not reach, and all of them once the user has left the loop."""
        for slot in slots if self.copies or self.idle else ():
            self.take(slot)
            if self.idle:
                clear(slot)

    def take(self, slot: Slot) -> None:
        """Copy a gradient into the flat one; a cast is made once, for parts of it may have met others' since."""
        if slot not in self.lent:
            copy_gradient(slot)
        if slot.cast is not None or slot.sparse:
            self.lent.add(slot)

    def hand_back(self) -> None:
        """Copy what became of cast and sparse gradients to where the user and the optimizer look."""
        for slot in self.lent:
            give_back(slot)
        self.lent.clear()

    def check_sent(self) -> None:
        """Raise RuntimeError if the user wrote what was on its way to other workers, from a hook or a thread."""
        for slot, (grad, writes) in self.sent.items():
            now = slot.param.grad
            if now is None and grad is not None:
                raise RuntimeError(
                    f"the gradient of {slot.name!r} was thrown away after backward(), while it was sent to the "
                    f"other workers: call zero_grad() before backward(); {backward_passes.MEANWHILE}"
                )
            if now is not grad or (now is not None and now._version != writes):
                raise RuntimeError(
                    f"the gradient of {slot.name!r} was changed after backward(), while it was sent: "
                    "call optimizer.synchronize() before you clip or unscale"
                )
            if now is None and not slot.param.requires_grad:  # not one of which this batch has used no row
                self.check_frozen(slot)
        self.sent.clear()

    def check_unwritten(self) -> None:
        """Raise RuntimeError if the user wrote gradients before they were averaged, as if they were final."""
        for slot in self.layout.slots:
            if slot not in self.sent and backward_passes.is_written(slot):
                raise RuntimeError(backward_passes.written_early(slot, self.passes.number, self.accumulate))

    def note_gradients(self) -> None:
        """Note the gradients that the user is given, to see later what becomes of them."""
        for slot in self.layout.slots:
            grad = slot.param.grad
            slot.left = None if grad is None else (ref(grad), grad._version)

    def check_frozen(self, slot: Slot) -> None:
        """Refuse a parameter that is frozen here, and so stays, and is trained by others."""
        if self.worker.size > 1 and bool((slot.grad != 0).any()):
            raise RuntimeError(
                f"parameter {slot.name!r} is frozen on worker {self.worker.rank}, and others train it: replicas "
                "would drift apart, so call requires_grad_(False) on every worker at one step"
            )

    # --- updates -----------------------------------------------------------------------------------------

    def update(self, request: Update) -> None:
        """Make a step of the inner optimizer, unless this worker had no gradient or it overflowed."""
        self.begun = False
        if self.idle and (request.local or not self.synchronous()):
            return
        if not self.skipping:
            self.updates += 1
            if request.proximal is None:
                self.step()
            else:
                self.proximal_step(request.proximal)
        self.skipping = False
        self.reset()

    def step(self) -> None:
        """Make a step of the inner optimizer, which looks at parameters and gradients of their own dtypes."""
        if self.lent:
            self.hand_back()
        with self.layout.unflat():
            self.inner.step()

    def proximal_step(self, proximal: Proximal) -> None:
        """Make a step of the inner optimizer, with the two ops of a proximal term around it."""
        with self.flat():
            self.complete(self.layout.slots)
            ops.proximal(self.worker.grad, self.worker.params, proximal.anchor, proximal.strength)
            self.step()
            ops.blend(proximal.mean, self.worker.params, proximal.keep)

    def rate(self, step: int) -> float:
        """Return the learning rate of the inner optimizer's first group, as a scheduler has left it."""
        rate = self.inner.param_groups[0].get("lr")
        if rate is None:
            raise TypeError(
                f"{type(self.inner).__name__} has no learning rate (param_groups[0]['lr']) that the strategy "
                "could follow: say the strategy's own, as in SlowMo(rate=0.1)"
            )
        return float(rate)

    def reset(self) -> None:
        """Let the next step begin with no backward pass."""
        self.missing = None
        self.fresh.clear()
        self.lent.clear()
        self.passes.first, self.last_pass = -1, self.accumulate
        for slot in self.layout.slots:
            slot.passes, slot.left = 0, None

    def unscale(self, overflow: Tensor | None, factor: Tensor | None) -> None:
        """Do what GradScaler.step leaves to an optimizer: divide by the scale, and skip a step that overflowed."""
        self.skipping = overflow is not None and bool(overflow.item())
        if factor is not None:
            gradients = [slot.param.grad for slot in self.layout.slots if slot.param.grad is not None]
            torch._foreach_mul_(gradients, factor.double().reciprocal().float())


def seen(slot: Slot) -> Seen:
    """Return the gradient that the user sees, and torch's count of writes to it."""
    grad = slot.param.grad
    return grad, 0 if grad is None else grad._version


class Moments:
    """What the inner optimizer keeps for each element of a parameter, as it is when it is asked for.

    Torch makes it in the first step of a parameter: all workers must have made one.
    """

    def __init__(self, layout: Layout, inner: torch.optim.Optimizer) -> None:
        self.layout, self.inner = layout, inner

    def __iter__(self) -> Iterator[Buffer]:
        return (buffer for _, buffer in self.ordered())

    def ordered(self) -> Iterator[tuple[int, Buffer]]:
        """Yield each with its place among those of its parameter, in order of their names."""
        for slot in self.layout.slots:
            found = [
                (name, value)
                for name, value in sorted(self.inner.state.get(slot.param, {}).items())
                if isinstance(value, torch.Tensor) and value.shape == slot.param.shape
            ]
            for place, (name, value) in enumerate(found):
                yield place, self.as_buffer(slot.name, name, value)

    def as_buffer(self, of: str, name: str, value: torch.Tensor) -> Buffer:
        """Return a view of it."""
        if value.layout is not torch.strided:
            raise TypeError(f"{name} of {of!r} is {value.layout}: only dense values are averaged or reset")
        if value.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"{name} of {of!r} is {value.dtype}: only float32 and float64 are averaged or reset")
        return buffer_of(in_memory_order(value))
