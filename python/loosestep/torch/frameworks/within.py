"""A worker that is itself a group of processes: torch's FSDP2 or DDP inside it, a strategy between the groups."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext, redirect_stderr
from io import StringIO
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed, nn

from loosestep.torch.data import samplers
from loosestep.torch.optimizer import Parallel
from loosestep.transports.processes.session import WiredTransport
from loosestep.transports.processes.subset import Subset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from loosestep.strategies.base import Strategy
    from loosestep.transports.base import Transport


def local_of(tensor: Any) -> Any:
    """Return this process's part of a tensor, in its own memory: the shard of a DTensor, else all of it."""
    found = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return found.detach()


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


def partners(on: Transport, mesh: Any) -> tuple[Subset, int, int]:
    """Return the processes that have this one's place in their groups, that place, and the size of a group.

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
    return Subset(on, tuple(each[place] for each in groups)), place, len(mine)


class Shards(nn.Module):
    """Plain parameters with the values that this process holds of a model's."""

    def __init__(self, model: nn.Module, inner: torch.optim.Optimizer) -> None:
        super().__init__()
        names = {param: name for name, param in model.named_parameters()}
        held = [param for group in inner.param_groups for param in group["params"] if param.requires_grad]
        self.pairs = [(param, nn.Parameter(local_of(param).clone())) for param in held]
        self.of = dict(self.pairs)
        for param, shard in self.pairs:
            self.register_parameter(names[param].replace(".", "/"), shard)

    def to_model(self) -> None:
        """Write the values into the model."""
        for param, shard in self.pairs:
            local_of(param).copy_(shard.detach())

    def from_model(self) -> None:
        """Read the values from the model."""
        for param, shard in self.pairs:
            shard.detach().copy_(local_of(param))

    def take_gradients(self) -> None:
        """Run a backward pass that leaves the model's gradients in the shards."""
        found = [(shard, local_of(param.grad)) for param, shard in self.pairs if param.grad is not None]
        torch.autograd.backward([shard for shard, _ in found], [gradient for _, gradient in found])

    def give_gradients(self) -> None:
        """Write the shards' gradients, which a strategy may have averaged, into the model's."""
        for param, shard in self.pairs:
            if param.grad is not None and shard.grad is not None:
                local_of(param.grad).copy_(shard.grad)


class Delegate(torch.optim.Optimizer):
    """Steps shards by the optimizer of the model."""

    def __init__(self, shards: Shards, inner: torch.optim.Optimizer) -> None:
        self.shards, self.inner = shards, inner
        super().__init__([self.of_shards(group) for group in inner.param_groups], {})

    def of_shards(self, group: dict[str, Any]) -> dict[str, Any]:
        """Return a parameter group with shards in place of the parameters that are trained."""
        return {**group, "params": [self.shards.of[param] for param in group["params"] if param in self.shards.of]}

    def follow(self) -> None:
        """Take over rates and other options, as a scheduler has set them."""
        for mine, theirs in zip(self.param_groups, self.inner.param_groups, strict=True):
            mine.update({name: value for name, value in theirs.items() if name != "params"})

    def step(self, closure: Any = None) -> None:
        self.shards.give_gradients()
        self.shards.to_model()
        self.inner.step()
        self.shards.from_model()


class ParallelWithin(torch.optim.Optimizer):
    """What `parallel(..., within=)` returns: an optimizer whose workers are groups of processes.

    Each process keeps its part of the model: a shard under FSDP2, all of it under DDP, and the strategy runs
    between the processes that have the same place in their groups. Gradients are those of a group until step(),
    also under `AllReduceSGD`, which averages them there: clipping before it clips a group's. Buffers, such as
    BatchNorm's statistics, are each process's own.

    rank, size: this group's number, and how many there are. place, group_size: this process's in its group.
    """

    _built = False

    def __init__(
        self, model: nn.Module, inner: torch.optim.Optimizer, mesh: Any, on: Transport, make: Any
    ) -> None:
        transport, self.place, self.group_size = partners(on, mesh)
        self.shards, self.inner, self.model = Shards(model, inner), inner, model
        named = type(type(inner).__name__, (Delegate,), {})  # so that workers compare its name, and print it
        self.delegate: Delegate = named(self.shards, inner)
        with nullcontext() if self.place == 0 else redirect_stderr(StringIO()):  # one banner
            self.between: Parallel = make(self.shards, self.delegate, on=transport)
        self.rank, self.size = self.between.rank, self.between.size
        self.shards.to_model()  # those of the first group
        super().__init__(inner.param_groups, inner.defaults)
        self.param_groups, self.state = inner.param_groups, inner.state
        self._built = True

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Raise TypeError: workers have agreed on the parameters."""
        if self._built:
            raise TypeError("add_param_group() comes before parallel(): all workers have agreed on the parameters")
        super().add_param_group(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the model's gradients."""
        self.inner.zero_grad(set_to_none)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step of the strategy, by the gradients that the model has now: clip them before."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.delegate.follow()
        self.between.zero_grad()
        self.shards.take_gradients()
        self.between.step()
        self.shards.to_model()
        return loss

    @contextmanager
    def consensus(self) -> Iterator[nn.Module]:
        """Let the model hold the consensus inside the block, which all processes enter, to evaluate or save it."""
        with self.between.consensus():
            self.shards.to_model()
            yield self.model
        self.shards.to_model()

    def shard(self, data: Any, batch_size: int = 1, *, seed: int = 0, shuffle: bool = True) -> Any:
        """Return the part of `data` of this process, among all of all groups: see `Parallel.shard`."""
        rank, size = self.rank * self.group_size + self.place, self.size * self.group_size
        among = SimpleNamespace(rank=rank, size=size, clock=self.between.worker.clock)
        return samplers.shard(data, batch_size, seed, shuffle, among, 1)  # type: ignore[arg-type]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raise NotImplementedError, as state_dict() does."""
        self.state_dict()

    def state_dict(self) -> dict[str, Any]:
        """Raise NotImplementedError: a checkpoint of shards is torch's to write."""
        raise NotImplementedError(
            "state_dict() and checkpoints of a run within= are not there yet: save the consensus by "
            "torch.distributed.checkpoint inside `with optimizer.consensus():`"
        )

    def __enter__(self) -> ParallelWithin:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.between.__exit__(kind, error, trace)
        if error is None:
            self.shards.to_model()

    def close(self, error: BaseException | None = None) -> None:
        """End this worker's data: see `Parallel.close`."""
        self.between.close(error)
        self.shards.to_model()
