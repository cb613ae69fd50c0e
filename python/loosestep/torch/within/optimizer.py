"""A worker that is itself a group of processes: torch's FSDP2 or DDP inside it, a strategy between the groups."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext, redirect_stderr
from io import StringIO
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed, nn

from loosestep.foundation import units
from loosestep.runtime.agreement.base import Meeting
from loosestep.runtime.agreement.processes import AgreementOfProcesses
from loosestep.runtime.checkpoint.loop import Checkpoints
from loosestep.runtime.checkpoint.member import Member
from loosestep.runtime.exit_handler import ClosedAtEnd
from loosestep.strategies.base import Need
from loosestep.torch.agreement.together import TorchTogether
from loosestep.torch.data import samplers
from loosestep.torch.data.dealt import Dealt
from loosestep.torch.gradients.sampler import Sampler
from loosestep.torch.optimizer import Parallel
from loosestep.torch.saving.beside import TorchBeside
from loosestep.torch.saving.methods import Saving
from loosestep.torch.within.shards import ContentsOfProcess, Delegate, Shards
from loosestep.transports.processes.session import WiredTransport
from loosestep.transports.processes.subset import Subset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from loosestep.strategies.base import Strategy
    from loosestep.transports.base import Transport


def check_within(model: nn.Module, strategy: Strategy) -> None:
    """Refuse a model that a group would not train as one, and a strategy of one memory for all."""
    kinds = {kind.__name__ for module in model.modules() for kind in type(module).__mro__}
    if not kinds & {"DistributedDataParallel", "FSDPModule"}:
        raise TypeError(
            "within= is for a model that is DDP, or FSDP2 by fully_shard(), over the processes of the group: this "
            f"{type(model).__name__} is neither, so that each of them would train apart"
        )
    if strategy.shared_buffers:
        raise ValueError(f"within= has parameters of each process's own, and {strategy} shares one memory of them")
    if "DistributedDataParallel" in kinds and not all(part.synchronous for part, _ in strategy.stages):
        raise ValueError(
            f"under {strategy} each process of a group would exchange parameters at times of its own, and the "
            "copies that DDP keeps alike would differ: use fully_shard() inside, or a synchronous strategy"
        )
    for need in strategy.needs & {Need.GLOBAL_BATCHES, Need.STEP_TIMES}:
        raise ValueError(f"{strategy} needs {need.value}, which a worker of several processes does not give")


def partners(on: Transport, mesh: Any) -> tuple[Subset, int, int, Any]:
    """Return the processes that have this one's place in their groups, that place, the size of a group, and it.

    Raises TypeError or ValueError where the groups are not equal parts of all processes.
    """
    if not isinstance(on, WiredTransport):
        raise TypeError(f"within= needs processes that were started together, and this is on={on!r}")
    if not distributed.is_initialized() or distributed.get_world_size() != on.size:
        raise ValueError(
            f"within= needs a process group of torch.distributed of all {on.size} processes: call "
            "init_process_group before parallel()"
        )
    if distributed.get_rank() != on.rank:
        raise ValueError(
            f"this process is rank {distributed.get_rank()} of torch.distributed, and rank {on.rank} of {on!r}: "
            "pass rank=loosestep.torch.world().rank to init_process_group"
        )
    group = mesh.get_group() if hasattr(mesh, "get_group") else mesh
    mine = distributed.get_process_group_ranks(group)
    found: list[Any] = [None] * on.size
    distributed.all_gather_object(found, mine)
    groups = sorted({tuple(each) for each in found})
    if (
        sorted(rank for each in groups for rank in each) != list(range(on.size))
        or len(mine) * len(groups) != on.size
    ):
        raise ValueError(f"the groups of within= must be equal parts of all {on.size} processes, got {groups}")
    place = mine.index(on.rank)
    return Subset(on, tuple(each[place] for each in groups)), place, len(mine), group


class Process:
    """One process among all, as samplers see it: its number, how many there are, and its worker's steps."""

    def __init__(self, agreement: Meeting) -> None:
        self.rank, self.size, self.worker = agreement.rank, agreement.size, agreement.worker

    @property
    def clock(self) -> int:
        """The steps that the worker has made."""
        return self.worker.clock


class ParallelWithin(ClosedAtEnd, TorchTogether, Saving, torch.optim.Optimizer):
    """What `parallel(..., within=)` returns: an optimizer whose workers are groups of processes.

    Each process keeps its part of the model: a shard under FSDP2, all of it under DDP, and the strategy runs
    between the processes that have the same place in their groups. Gradients are those of a group until step(),
    also under `AllReduceSGD`, which averages them there: clipping before it clips a group's. Buffers, such as
    BatchNorm's statistics, are each process's own.

    All processes make all calls, those of a group at one step, and get one answer: `mean`, `gather`, `agree`,
    `barrier` and `stopping` are of all processes; `once` calls its action on the processes of worker 0, which may
    communicate among themselves, and `save` writes a file for each process.

    rank, size: this group's number, and how many there are. place, group_size: this process's in its group.
    `meter` counts what this process sent to those of other groups.
    """

    _built = False

    def __init__(
        self, model: nn.Module, inner: torch.optim.Optimizer, mesh: Any, on: Transport, make: Any
    ) -> None:
        transport, self.place, self.group_size, group = partners(on, mesh)
        if isinstance(inner, Sampler):
            raise TypeError("within= splits parameters, and a Sampler does not know their places in its noise")
        self.shards, self.inner, self.whole = Shards(model, inner), inner, model
        named = type(type(inner).__name__, (Delegate,), {})  # so that workers compare its name, and print it
        self.delegate: Delegate = named(self.shards, inner)
        with nullcontext() if self.place == 0 else redirect_stderr(StringIO()):  # one banner
            self.between: Parallel = make(self.shards, self.delegate, on=transport)
        between = self.between
        self.rank, self.size, self.meter, self.loop = between.rank, between.size, between.meter, between.loop
        self.layouts, self.hyperparameters, self.member = between.layouts, between.hyperparameters, between.member
        self.agreement = AgreementOfProcesses(
            between.agreement, lambda mine: gathered(mine, group, self.group_size), self.place, self.group_size
        )
        self.stop_at = between.stop_at
        self.stop_at.largest = self.agreement.largest
        groups = f"{units.times(self.size, 'group')} of {self.group_size}"
        params = {param: self.shards.names[param] for param, _ in self.shards.pairs}
        contents = ContentsOfProcess(between.member.contents, params, groups)
        beside = TorchBeside(between.layout.slots[0].param.device)
        self.checkpoints = Checkpoints([Member(contents, self.agreement)], beside)
        self.shards.to_model()  # those of the first group
        super().__init__(inner.param_groups, inner.defaults)
        self._alias_inner()
        self.loading = inner.register_load_state_dict_post_hook(lambda inner: self._alias_inner())
        self._built = True

    def _models(self) -> list[nn.Module]:
        return [self.whole]

    def _alias_inner(self) -> None:
        self.param_groups, self.state = self.inner.param_groups, self.inner.state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Raise TypeError: workers have agreed on the parameters."""
        if self._built:
            raise TypeError("add_param_group() comes before parallel(): all workers have agreed on the parameters")
        super().add_param_group(param_group)

    @contextmanager
    def _flat(self) -> Iterator[None]:
        """Let the strategy have the values of the model, and the model afterwards those of the strategy."""
        self.delegate.follow()
        self.shards.from_model()
        try:
            with self.between.layout.flat():
                yield
        finally:
            self.shards.to_model()

    def _require_own(self, what: str, *, over: bool = False) -> None:
        self.between._require_own(what, over=over)

    # --- steps -------------------------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the model's gradients."""
        self.inner.zero_grad(set_to_none)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step of the strategy, by the gradients that the model has now: clip them before."""
        self._require_own("step()")
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._go_on(self.between.step)
        return loss

    def skip(self) -> None:
        """Leave out this step's update, on all processes of this group: see `Parallel.skip`."""
        self._require_own("skip()")
        self._go_on(self.between.skip)
        self.inner.zero_grad()

    def _go_on(self, step: Callable[[], Any]) -> None:
        self.shards.check(self.inner)
        self.delegate.follow()
        self.shards.from_model()
        self.between.zero_grad()
        self.shards.take_gradients()
        try:
            step()
        finally:
            self.shards.to_model()

    def ready(self) -> None:
        """Wait until this worker has a step to make: see `Parallel.ready`."""
        self._require_own("ready()")
        with self._flat():
            self.between.ready()

    # --- the run -----------------------------------------------------------------------------------------

    @contextmanager
    def consensus(self) -> Iterator[nn.Module]:
        """Let the model hold the consensus inside the block, which all processes enter, to evaluate or save it.

        Where the consensus is one-sided, those of one group may enter it alone.
        """
        self.shards.from_model()
        try:
            with self.between.consensus():
                self.shards.to_model()
                yield self.whole
        finally:
            self.shards.to_model()

    def shard(self, data: Any, batch_size: int = 1, *, seed: int = 0, shuffle: bool = True) -> Any:
        """Return the part of `data` of this process, among all of all groups: see `Parallel.shard`."""
        process: Any = Process(self.agreement)
        found = samplers.shard(data, batch_size, seed, shuffle, process, 1)
        if isinstance(found, Dealt):
            self.hyperparameters.orders.append(found)
        return found

    def close(self, error: BaseException | None = None) -> None:
        """End this worker's data: see `Parallel.close`."""
        self.checkpoints.close()
        self.loading.remove()
        self.between.close(error)
        self.shards.to_model()


def gathered(mine: Any, group: Any, size: int) -> list[Any]:
    """Return the objects of the processes of a group, by place."""
    found: list[Any] = [None] * size
    distributed.all_gather_object(found, mine, group=group)
    return found
