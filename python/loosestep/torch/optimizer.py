"""What `parallel` returns: a torch optimizer whose step is a strategy's."""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import nn

from loosestep.foundation.buffers import is_on_device
from loosestep.optimizers.schedules import SCALINGS
from loosestep.requests import AllReduce, Update
from loosestep.runtime.checkpoint.folder import KEEP
from loosestep.runtime.program import GRADIENT
from loosestep.runtime.user_loop import Joined, Loop
from loosestep.torch import batch_norm
from loosestep.torch import samplers as shard
from loosestep.torch.batch_norm import Statistics, broadcast
from loosestep.torch.changes import Changes
from loosestep.torch.checkpoint import Folders
from loosestep.torch.device_buffer import check_card
from loosestep.torch.ending import Ending, fail, well
from loosestep.torch.flat import AtHome, Layout, trained
from loosestep.torch.hooks import Hooks, Unshared, check_free
from loosestep.torch.options import Options
from loosestep.torch.passes import MEANWHILE
from loosestep.torch.setup import facts, say, scale
from loosestep.torch.shared_state import Arena, check_hosted, check_in_memory, check_one_dtype, sparse_of
from loosestep.torch.state_dict import own_part, restored, saved
from loosestep.torch.step_model import Moments, TorchModel
from loosestep.transports.matching import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from loosestep.torch.flat import Slot
    from loosestep.torch.hooks import Handle
    from loosestep.torch.setup import Run
    from loosestep.transports.base import Transport

Answer = TypeVar("Answer")


class Parallel(torch.optim.Optimizer):
    """A torch optimizer whose step is a strategy's. Made by `parallel`.

    `rank` and `size` say who this worker is, `meter` what it sent.
    """

    _built = False

    def __init__(
        self,
        model: nn.Module,
        inner: torch.optim.Optimizer,
        run: Run,
        on: Transport,
        statistics: Statistics,
        scale_rate: str,
    ) -> None:
        strategy, accumulate = run.strategy, run.accumulate
        held = [param for group in inner.param_groups for param in group["params"]]
        named = trained(model, held)
        check_free(named)
        self.layout = Layout(named)
        if is_on_device(self.layout.params):
            check_card(self.layout.params)
        self.changes = Changes(model, self.layout, inner)
        self.joined = Joined(on, self.layout.params, run.seed)
        self.worker, self.meter = self.joined.worker, self.joined.meter
        self.rank, self.size = self.worker.rank, self.worker.size
        self.layout.attach(self.worker.grad)
        self.model = TorchModel(self.layout, self.worker, inner, strategy, accumulate)
        self.statistics, self.inner, self.accumulate = statistics, inner, accumulate
        self.arena: Arena | None = None  # where workers share the optimizer's state
        self.dropped = False  # the gradient at hand was taken before this worker rested
        self.needs = strategy.needs
        self.begin(model, run)
        self.folders = Folders(model, self.changes, inner, self.loop, self.model)
        scale(inner, SCALINGS[scale_rate](self.size))
        super().__init__(inner.param_groups, inner.defaults)
        self._share()
        self.hooks = Hooks((slot.param for slot in self.layout.slots), self._hung(model))
        self._built = True
        self.ending: Ending | None = None  # one alone need not say that it ends
        if self.size > 1:
            self.ending = Ending(self._at_exit)
            say(run, on, inner, self.worker, self.arena)

    def begin(self, model: nn.Module, run: Run) -> None:
        """All workers find that they do the same, and start from rank 0's values."""
        strategy = run.strategy
        try:
            self.joined.compute_with(self.model)
            self.joined.worker.edges = [slot.start for slot in self.layout.slots]
            if strategy.shares and self.size > 1:  # one alone is plain torch
                check_hosted(strategy, self.joined.session)
                check_in_memory(strategy, self.layout)
                check_one_dtype(strategy, self.layout)
                self.arena = Arena(self.inner, self.layout, sparse_of(model))
            told = facts(run, self.statistics.kind, self.inner, self.layout, self.arena)
            told |= batch_norm.facts(self.layout, model)
            self.options = Options(self.joined, self.inner)
            self.joined.agree(told | (build(strategy) if self.size > 1 else {}))
            self.joined.aside(broadcast(self.layout, model))
            if self.arena:
                self.share(self.arena)
            self.layout.casts.carry_out()
            self.worker.moments = Moments(self.layout, self.inner)
            self.loop = Loop(strategy, self.joined, self.model, run.steps_per_epoch)
            self.model.synchronous = lambda: self.loop.program.strategy.synchronous
        except BaseException as error:
            self.joined.session.leave(error)
            raise

    def share(self, arena: Arena) -> None:
        """Parameters and the optimizer's state lie in memory that all workers map."""
        session = self.joined.session
        self.layout.move(session.in_common("params", self.layout.params))
        self.worker.params, self.layout.shared = self.layout.params, True
        arena.share(session)
        self.joined.aside([AllReduce(np.zeros(1))])  # nobody begins before rank 0's values are there

    def _share(self) -> None:
        """One state and one list of groups, so that a scheduler of ours sets the rates of the user's."""
        self.param_groups, self.state = self.inner.param_groups, self.inner.state

    def _loaded(self, inner: torch.optim.Optimizer) -> None:
        if self.arena:
            self.arena.take_over()
        self._share()

    def _hung(self, model: nn.Module) -> Iterator[Handle]:
        """Hang this on torch's objects: nothing of it goes into a copy or a file of the model."""
        yield self.inner.register_load_state_dict_post_hook(self._loaded)
        if self.needs & {"times", "own_batches"}:
            yield model.register_forward_pre_hook(Unshared(self._forward))
        if is_on_device(self.layout.params):
            yield AtHome(model)
        for slot in self.layout.slots:
            yield slot.param.register_post_accumulate_grad_hook(partial(self._arrived, slot))

    def _arrived(self, slot: Slot, param: nn.Parameter) -> None:
        if not self.layout.away and self.model.arrive(slot) and self.size > 1:  # one alone has nothing to send
            self.loop.early(self.model.may_begin)

    def _forward(self, model: nn.Module, arguments: Any) -> None:
        if torch.is_grad_enabled() and not self.layout.away:
            self.loop.forward()

    def __getattr__(self, name: str) -> Any:
        """What the wrapped optimizer has besides, such as train() and eval() of schedule-free ones."""
        if name.startswith("_") or "inner" not in vars(self):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.inner, name)

    def _own(self, what: str, *, over: bool = False) -> None:
        """Refuse what is about this worker's own parameters while the model holds others, or after the end."""
        if self.layout.away:
            raise RuntimeError(
                f"{what} inside consensus() or once() would take the consensus for this worker's own parameters: "
                "call it after the block"
            )
        if self.loop.over and not over:
            raise RuntimeError(f"the run has ended: {what} belongs inside the `with optimizer:` that began it")

    def __getstate__(self) -> dict[str, Any]:
        """Refused: a copy would have no part in the run."""
        raise TypeError("what parallel() returns takes part in a run: state_dict() and save() keep it, not a copy")

    # --- what every torch optimizer has ------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refused: the flat buffers, and what other workers know of them, are made."""
        if self._built:
            raise TypeError("add_param_group() comes before parallel(): all workers have agreed on the parameters")
        super().add_param_group(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As the inner optimizer does. Where gradients are averaged it comes before backward(), never after it."""
        aside = self.layout.away or self.loop.over
        if self.model.begun and not aside and (self.size > 1 or self.model.copies):
            raise RuntimeError(
                "zero_grad() between backward() and step() erases gradients that are being sent to the other "
                f"workers: a step that is to be skipped is skipped before its backward(); {MEANWHILE}"
            )
        self.inner.zero_grad(set_to_none)
        if not aside:
            self.model.reset()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of the strategy: gradients meet if it says so, the inner optimizer moves, parameters meet."""
        self._own("step()")
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.changes.check()
        self.synchronize()
        if self.dropped:
            self.dropped = False
            self.model.reset()
            return loss
        self.unscale()
        self.loop.finish()
        if self.arena:
            self.arena.check()
        self.model.casts.carry_out()
        return loss

    def synchronize(self) -> None:
        """Gradients become what the inner optimizer will see: call it before you clip them, or unscale them."""
        self._own("synchronize()")
        if "own_rest" in self.needs and self.rested():
            return
        casts, pending = self.model.casts, self.loop.pending
        if not casts or pending is GRADIENT or isinstance(pending, Update):  # no strategy acts before the update
            self.loop.before_update()
        else:
            casts.bring_in()
            self.loop.before_update()
            casts.carry_out()
        self.model.check_sent()
        self.model.hand_back()

    def ready(self) -> None:
        """Wait until this worker has a step to make: the rounds in which `FedAvg` lets it rest pass here.

        To be called before a batch is taken. Left out, they pass in step(), and the gradient with which it came
        is not used, since it was taken before them: that step is none.
        """
        self._own("ready()")
        self.loop.between_steps("ready()")
        self.pass_rounds()

    def pass_rounds(self) -> bool:
        """Go on to where a gradient is wanted; whether others' parameters came meanwhile."""
        self.model.casts.bring_in()
        passed = self.loop.ready()
        self.model.casts.carry_out()
        return passed

    def rested(self) -> bool:
        """Whether the gradient at hand is too old."""
        self.dropped = self.dropped or self.pass_rounds()
        if self.dropped:
            self.loop.begun = False
        return self.dropped

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Asked by GradScaler.step before it looks for an overflow. Gradients meet first, so that all workers find
        the same; and step() is called whatever it finds, so that no worker misses a round."""
        self.synchronize()
        return True

    def unscale(self) -> None:
        """What GradScaler.step leaves to do."""
        found, factor = getattr(self, "found_inf", None), getattr(self, "grad_scale", None)
        self.model.skipping = found is not None and bool(found.item())
        if factor is not None:
            torch._foreach_mul_(self.model.gradients(), factor.double().reciprocal().float())

    def state_dict(self) -> dict[str, Any]:
        """The inner optimizer's state, and this worker's: the strategy's state, counters, the center on rank 0.

        Parameters and buffers are in the model's own state_dict. Every rank saves its own; one that gets another's
        is refused. Raises RuntimeError inside a step, and inside a round that has already communicated.
        """
        self._own("state_dict()", over=True)
        return {"optimizer": self.inner.state_dict(), "loosestep": saved(self.loop)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a `state_dict`: every worker loads its own, of the same strategy and number of workers."""
        self._own("load_state_dict()")
        restored(self.loop, own_part(state_dict))
        self.inner.load_state_dict(state_dict["optimizer"])
        self.folders.meeting.wait("load_state_dict()")  # what is shared is there

    def save(self, folder: str | os.PathLike[str], note: Any = None, keep: int = KEEP) -> None:
        """Write a checkpoint that `restore` goes on from: model, optimizer, strategy, counters, random numbers.

        Every worker calls it, at one step, inside `with optimizer:`; a file each, then the manifest, so that a job
        that dies leaves the last complete one; `keep` of them stay. `note` comes back from `restore`: what else
        your loop must know, as JSON, such as {"epoch": 3, "data": sampler.state_dict()}. Raises on all workers,
        which may go on, and leaves the checkpoint before: CheckpointError if a disk refuses, Diverged if numbers
        are not finite, TypeError for what cannot be written; ValueError if the folder holds another run's.
        """
        self._own("save()")
        self.loop.between_steps("save()")
        self.options.check("save()")
        self.layout.casts.bring_in()
        self.folders.save(folder, note, keep)

    def restore(self, folder: str | os.PathLike[str]) -> Any:
        """Go on from the newest whole checkpoint in the folder, and return its note; None where there is none.

        As many workers as wrote it go on bit for bit. With another number all begin at the saved consensus, with
        the mean of the optimizer's buffers and the note of worker 0, and a line on standard error says so. Raises
        CheckpointError, on all, where none is whole, another run wrote it, or another job writes there.
        """
        self._own("restore()")
        self.loop.between_steps("restore()")
        self.layout.casts.bring_in()
        note = self.folders.restore(folder)
        self.layout.casts.carry_out()
        return note

    # --- the run -----------------------------------------------------------------------------------------

    def __enter__(self) -> Parallel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(None if isinstance(error, SystemExit) and well(error.code) else error)

    def close(self, error: BaseException | None = None) -> None:
        """This worker has no further batch: it answers the others until all have ended.

        The model is a plain one then, for a plain optimizer or another parallel().
        """
        if self.ending:
            self.ending.close()
        self.hooks.close()
        self.folders.close()
        self.model.feed.left = True
        if error is not None:  # which may be the card's: nothing more is asked of it
            if isinstance(error, SystemExit) and self.size > 1:
                fail(error.code)
                error = SystemExit(error.code)
            self.loop.leave(error)
            return
        self.layout.casts.bring_in()
        self.loop.leave(None, self.statistics.meet())
        self.layout.casts.carry_out()

    def _at_exit(self) -> None:
        """The script has ended, and with it the data, unless its exit code says that it failed."""
        self.close(None if well(Ending.code) else SystemExit(Ending.code))

    def once(self, action: Callable[..., Answer], *arguments: Any) -> Answer | None:
        """`action(*arguments)` on rank 0 alone, while the model holds the consensus: to print, evaluate, save.

        Where the strategy's consensus is collective, all workers call it at one step. Arguments that look at the
        model's memory, as `model.state_dict()` does, show the consensus too.
        """
        if self.rank != 0 and self.loop.program.one_sided():
            return None
        with self.consensus():
            return action(*arguments) if self.rank == 0 else None

    @contextmanager
    def consensus(self, batches: Iterable[Any] | None = None) -> Iterator[nn.Module]:
        """Inside, the model holds the parameters to evaluate and to save: the mean, or the center.

        Of a strategy whose consensus is collective all workers must come here at the same step; with a
        one-sided one any worker may come alone. `batches`, for buffers='recompute', are inputs of the model.
        Backward passes inside count for no step, and their gradients are gone after it. Raises RuntimeError inside
        a step and after a run that ended with an error; where the consensus is collective Mismatch if workers'
        learning rates, or other options, have drifted apart.
        """
        if self.layout.away:  # it is there
            yield self.statistics.model
            return
        if not self.loop.over:
            self.loop.between_steps("consensus()")
            self.changes.check()
            if not self.loop.program.one_sided():
                self.options.check("consensus()")
        with self.statistics.consensus(self.loop, self.layout, batches) as model:
            yield model

    def shard(self, data: Any, batch_size: int = 1, *, seed: int = 0, shuffle: bool = True) -> Any:
        """This worker's part of `data`: a batch sampler of a data set or a length, or an IterableDataset of one.

        DataLoader(data, batch_sampler=optimizer.shard(data, batch_size=64))
        DataLoader(optimizer.shard(stream), batch_size=64)

        Under `DBS` batches are of `batch_size` rows on average, and a worker's follow its speed: see `SharedOut`.
        """
        if "own_batches" in self.needs:
            return shard.shared_out(data, batch_size, seed, shuffle, self.model, self.ready)
        return shard.shard(data, batch_size, seed, shuffle, self.worker, self.accumulate)
