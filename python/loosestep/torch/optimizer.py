"""What `parallel` returns: a torch optimizer whose step is a strategy's."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from loosestep.foundation.buffers import is_on_device
from loosestep.optimizers.schedules import SCALINGS
from loosestep.runtime.agreement.meeting import Agreement
from loosestep.runtime.agreement.stopping import Stopping
from loosestep.runtime.checkpoint.loop import Checkpoints
from loosestep.runtime.checkpoint.member import Member
from loosestep.runtime.exit_handler import ClosedAtEnd, ExitHandler, end_with
from loosestep.runtime.program import GRADIENT
from loosestep.runtime.resting import Resting
from loosestep.runtime.user_loop import Connection, Loop
from loosestep.strategies.base import Need
from loosestep.torch.agreement.together import TorchTogether
from loosestep.torch.buffers.statistics import Statistics, broadcast
from loosestep.torch.buffers.sync_batch_norm import SynchronizedNorms, Workers
from loosestep.torch.data import samplers
from loosestep.torch.device_buffer import check_device
from loosestep.torch.flat import Layout, UnflattenedRNNs, trained
from loosestep.torch.gradients.averages import Averages
from loosestep.torch.gradients.sampler import Sampler
from loosestep.torch.gradients.step_model import Moments, TorchModel
from loosestep.torch.hooks import Hooks, UncopiedHook, check_free
from loosestep.torch.hyperparameters import Hyperparameters
from loosestep.torch.saving.beside import TorchBeside
from loosestep.torch.saving.contents import TorchContents
from loosestep.torch.saving.methods import Saving
from loosestep.torch.setup import facts, print_banner, scale
from loosestep.torch.shared_state import SharedState, check_hosted, check_in_memory, check_one_dtype, sparse_of
from loosestep.torch.tracked_parameters import TrackedParameters
from loosestep.transports.matching import build
from loosestep.transports.serial import Serial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from loosestep.torch.setup import RunOptions
    from loosestep.transports.base import Transport

Answer = TypeVar("Answer")


class Parallel(ClosedAtEnd, TorchTogether, Resting, Saving, torch.optim.Optimizer):
    """A torch optimizer whose step is a strategy's. `parallel` makes it.

    `rank` and `size` are this worker's, `meter` counts what it sent.
    """

    _built = False

    def __init__(
        self,
        model: nn.Module,
        inner: torch.optim.Optimizer,
        run: RunOptions,
        on: Transport,
        statistics: Statistics,
        scale_rate: str,
    ) -> None:
        named = trained(model, (param for group in inner.param_groups for param in group["params"]))
        check_free(named)
        self.layout = Layout(named, sparse_of(model))
        if is_on_device(self.layout.params):
            check_device(self.layout.params)
        self.tracked = TrackedParameters(model, self.layout, inner)
        self.connection = Connection(on, self.layout.params, run.seed)
        self.process = os.getpid()
        self.worker, self.meter = self.connection.worker, self.connection.meter
        self.layout.move(self.worker.params)
        self.rank, self.size, self.needs = self.worker.rank, self.worker.size, run.strategy.needs
        self.layout.attach(self.worker.grad)
        self.model = TorchModel(self.layout, self.worker, inner, run.strategy, run.accumulate)
        if isinstance(inner, Sampler):
            inner.join(run.strategy, self.worker)
        self.statistics, self.inner, self.accumulate = statistics, inner, run.accumulate
        self.shared_state: SharedState | None = None  # where workers share the optimizer's state
        self.layouts = [self.layout]
        self._begin(model, run)
        self.member = Member(TorchContents(model, self.tracked, inner), self.agreement)
        self.checkpoints = Checkpoints([self.member], TorchBeside(self.layout.slots[0].param.device))
        scale(inner, SCALINGS[scale_rate](self.size))
        super().__init__(inner.param_groups, inner.defaults)
        self._alias_inner()
        self.hooks = Hooks(self.layout, self.averages.arrived)
        self.hooks.add(inner.register_load_state_dict_post_hook(self._inner_loaded))
        if self.needs & {Need.STEP_TIMES, Need.GLOBAL_BATCHES}:
            self.hooks.add(model.register_forward_pre_hook(UncopiedHook(self._forward)))
        if is_on_device(self.layout.params):
            self.hooks.add(UnflattenedRNNs(model))
        if self.size > 1:
            self.hooks.add(SynchronizedNorms(statistics.synchronized, Workers(self.connection, self.layout)))
        self._built = True
        self.exit_handler: ExitHandler | None = None  # Serial() has nobody to tell that it ends, and no thread
        if self.size > 1 or type(on) is not Serial:
            self.exit_handler = ExitHandler(self._at_exit)
        if self.size > 1:
            print_banner(run, on, model, inner, self.worker, self.shared_state)

    def _begin(self, model: nn.Module, run: RunOptions) -> None:
        """Check that all workers do the same, and start all from rank 0's values."""
        strategy = run.strategy
        try:
            self.connection.compute_with(self.model)
            self.connection.worker.edges = [slot.start for slot in self.layout.slots]
            self.connection.worker.shapes = tuple(tuple(slot.param.shape) for slot in self.layout.slots)
            if self.size > 1:
                self.connection.worker.row_tensors = self.layout.row_tensors()
            if strategy.shared_buffers and self.size > 1:  # one alone is plain torch
                check_hosted(strategy, self.connection.session)
                check_in_memory(strategy, self.layout)
                check_one_dtype(strategy, self.layout)
                self.shared_state = SharedState(self.inner, self.layout, sparse_of(model))
            told = facts(run, self.inner, self.layout, self.shared_state)
            told |= self.statistics.facts(self.layout)
            self.connection.agree(told | (build(strategy) if self.size > 1 else {}))
            with self.layout.flat():
                self.connection.run_unmetered(broadcast(self.layout, model))
            if self.shared_state:
                self.shared_state.share_all(self.connection)
            self.worker.moments = Moments(self.layout, self.inner)
            more = self.statistics.after_round(self.worker, self.model.feed)
            self.loop = Loop(strategy, self.connection, self.model, run.steps_per_epoch, more)
            self.agreement, self.stop_at = Agreement(self.loop), Stopping(self.loop)
            self.hyperparameters = Hyperparameters(self.agreement, self.inner)
            self.model.synchronous = lambda: self.loop.program.strategy.synchronous
            self.averages = Averages(self.loop, self.model, self.agreement)
        except BaseException as error:
            self.connection.session.leave(error)
            raise

    def _flat(self) -> AbstractContextManager[None]:
        return self.layout.flat()

    def _models(self) -> list[nn.Module]:
        return [self.statistics.model]

    def _alias_inner(self) -> None:
        """Use the inner optimizer's state and groups, so that a scheduler of ours sets the user's rates."""
        self.param_groups, self.state = self.inner.param_groups, self.inner.state

    def _inner_loaded(self, inner: Any) -> None:
        if self.shared_state:
            self.shared_state.take_over()
        self._alias_inner()

    def _forward(self, model: nn.Module, arguments: Any) -> None:
        if torch.is_grad_enabled() and not self.layout.away:
            self.loop.forward()

    def __getattr__(self, name: str) -> Any:
        """Return what the wrapped optimizer has besides, such as train() and eval() of schedule-free ones."""
        if name.startswith("_") or "inner" not in vars(self):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.inner, name)

    def _require_own(self, what: str, *, over: bool = False) -> None:
        """Refuse a call while the model holds others' parameters, after the end, or in a forked process."""
        if self.layout.away:
            raise RuntimeError(
                f"{what} inside consensus() or once() would take the consensus for this worker's own parameters: "
                "call it after the block"
            )
        if self.loop.over and not over:
            raise RuntimeError(f"the run has ended: {what} belongs inside the `with optimizer:` that began it")
        if os.getpid() != self.process and not self.loop.over:
            self.loop.endpoint.check()

    def __getstate__(self) -> dict[str, Any]:
        """Raise TypeError: a copy would have no part in the run."""
        raise TypeError("what parallel() returns takes part in a run: state_dict() and save() keep it, not a copy")

    # --- what every torch optimizer has ------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Raise TypeError: the flat buffers are made."""
        if self._built:
            raise TypeError("add_param_group() comes before parallel(): all workers have agreed on the parameters")
        super().add_param_group(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients as the inner optimizer does; where they have been averaged, on all workers alike."""
        outside = self.layout.away or self.loop.over
        if not outside:
            self.averages.throw_away()
        self.inner.zero_grad(set_to_none)
        if not outside:
            self.model.reset()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step of the strategy, and return the loss of `closure`, if there is one.

        Gradients are averaged if the strategy says so; the inner optimizer steps; where a round ends, parameters
        are exchanged. Raises PeerFailed where another worker failed, and what the docs list for changed models.
        """
        self._require_own("step()")
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.tracked.check()
        self._synchronize()
        if self.dropped:
            self.dropped = False
            self.model.reset()
            return loss
        if "found_inf" in vars(self) or "grad_scale" in vars(self):
            self.model.unscale(getattr(self, "found_inf", None), getattr(self, "grad_scale", None))
        self.averages.final = False
        self.loop.perform()  # the update
        with self.model.flat():
            self.loop.finish()
        if self.shared_state:
            self.shared_state.check()
        return loss

    def skip(self) -> None:
        """Leave out this step's update: call it in place of step(), to throw away what backward() computed.

        It is a step as any other, whose batch was used: periods and schedules go on. Where gradients are averaged
        all workers must skip the same step, or Mismatch says that one does not; else each may decide for itself.
        """
        self._require_own("skip()")
        self._synchronize()
        self.averages.meet("skip()")
        self.model.skipping = True
        self.step()
        self.model.skipping = False
        self.inner.zero_grad()

    def synchronize(self) -> None:
        """Let the gradients be what the inner optimizer will see, as they are whenever backward() has returned.

        Only a step of fewer backward passes than `accumulate` needs this, before you clip.
        """
        self._require_own("synchronize()")
        self._synchronize()

    def _synchronize(self) -> None:
        if Need.PARTIAL_PARTICIPATION in self.needs and self._has_rested():
            return
        if self.loop.pending is GRADIENT:  # the strategy does nothing before the update
            self.loop.to_update()
        else:
            self.averages.complete(late=True)

    def no_sync(self) -> AbstractContextManager[None]:
        """Let backward passes inside the block not be the last of their step, as DDP's no_sync() does.

        The next pass after it is the last one, whatever `accumulate` is.
        """
        return self.averages.no_sync()

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Tell GradScaler.step to call step() whatever it finds in the gradients.

        They are averaged before it looks, so all workers decide alike.
        """
        self.synchronize()
        return True

    # --- the run -----------------------------------------------------------------------------------------

    def close(self, error: BaseException | None = None) -> None:
        """End this worker's data: it takes part in the others' rounds until all have ended.

        With an error it ends at once, and the others are told. Afterwards the model is a plain one, for a plain
        optimizer or another parallel().
        """
        if self.exit_handler:
            self.exit_handler.close()
        self.hooks.close()
        self.checkpoints.close()
        self.stop_at.close()
        self.model.feed.closed = True
        if error is not None:  # it may be the GPU's: nothing more is asked of it
            if isinstance(error, SystemExit) and self.size > 1:
                end_with(error.code)
                error = SystemExit(error.code)
            self.loop.leave(error)
            return
        with self.layout.flat():
            self.averages.leave()
            self.loop.leave(None, self.statistics.exchange())

    @contextmanager
    def consensus(self, batches: Iterable[Any] | None = None) -> Iterator[nn.Module]:
        """Let the model hold, inside the block, the parameters to evaluate and to save: the mean, or the center.

        Where the strategy's consensus is collective all workers must come here at the same step; where it is
        one-sided any worker may come alone. `batches`, for buffers='recompute', are inputs of the model. Backward
        passes inside count for no step, and their gradients are gone after it. Raises RuntimeError inside a step
        and after a run that ended with an error; where the consensus is collective Mismatch if workers' learning
        rates, or other options, have drifted apart.
        """
        if self.layout.away:  # the model holds it already
            yield self.statistics.model
            return
        if not self.loop.over:
            self.loop.between_steps("consensus()")
            self.tracked.check()
        with self.agreement.call(self.worker.calling or "consensus()"):
            if not self.loop.over and not self.loop.program.one_sided():
                self.hyperparameters.check("consensus()")
            with self.statistics.consensus(self.loop, self.layout, batches) as model:
                yield model

    def shard(self, data: Any, batch_size: int = 1, *, seed: int = 0, shuffle: bool = True) -> Any:
        """Return this worker's part of `data`: a batch sampler, or of a stream an IterableDataset.

        DataLoader(data, batch_sampler=optimizer.shard(data, batch_size=64))
        DataLoader(data, batch_sampler=optimizer.shard(WeightedRandomSampler(...), batch_size=64))
        DataLoader(data, batch_sampler=optimizer.shard(BatchSampler(...)))
        DataLoader(optimizer.shard(stream), batch_size=64)

        data: a data set with len(), a number of rows, a Sampler, whose order is dealt (see `Dealt`), a
            BatchSampler, whose batches are, or an IterableDataset, of which every worker reads all and keeps its
            items.

        Under `DBS` batches are of `batch_size` rows on average, and a worker's follow its speed: see `SharedOut`.
        """
        if Need.GLOBAL_BATCHES in self.needs:
            found = samplers.shared_out(data, batch_size, seed, shuffle, self.model, self.ready)
        else:
            found = samplers.shard(data, batch_size, seed, shuffle, self.worker, self.accumulate)
        if not isinstance(found, samplers.Stride):
            self.hyperparameters.orders.append(found)
        return found
