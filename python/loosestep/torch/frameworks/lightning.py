"""A strategy of Lightning's Trainer: its processes are loosestep's workers."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, nullcontext, redirect_stderr
from copy import deepcopy
from io import StringIO
from typing import TYPE_CHECKING, Any

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import ParallelStrategy
from torch import nn

from loosestep.strategies.allreduce_sgd import AllReduceSGD
from loosestep.torch.setup import launched
from loosestep.torch.wrap import parallel

if TYPE_CHECKING:
    from os import PathLike

    from lightning.pytorch import Trainer

    from loosestep.strategies.base import Strategy
    from loosestep.transports.base import Transport


class LoosestepStrategy(ParallelStrategy):
    """Trains a LightningModule, as it is, by a strategy of loosestep.

        Trainer(strategy=LoosestepStrategy(ls.LocalSGD(period=8)), devices=1, gradient_clip_val=1.0)

    Start the script by `loosestep run -n N` or torchrun. Lightning's global_rank and world_size are loosestep's,
    so that it deals the data (DistributedSampler), and logs and writes on rank 0. `devices` are one worker's: 1.

    Validation sees the consensus, and so do the weights in a checkpoint, and the model after `fit`. Beside a
    checkpoint NAME.ckpt the folder NAME.ckpt.workers holds what each worker needs to go on with the same bits. Log
    with sync_dist=True what decides: what early stopping and ModelCheckpoint monitor.

    strategy: such as `LocalSGD(period=8)`.
    on: the transport, as of `parallel`.
    options: further arguments of `parallel`, such as buffers. `accumulate` is Trainer's accumulate_grad_batches.
    """

    def __init__(self, strategy: Strategy, on: Transport | None = None, **options: Any) -> None:
        super().__init__(cluster_environment=LightningEnvironment())
        self.workers_do, self.options = strategy, options
        self.on = on or launched()
        self.number_here = int(getattr(self.on, "local_rank", 0))
        self.parallel: Any = None  # from the beginning of a fit on
        self.over = True
        self.looking = ExitStack()  # open while the model holds the consensus
        self.path: str | PathLike[str] = ""  # of the checkpoint that was read
        with redirect_stderr(StringIO()):  # its banner would be taken for that of the run
            self.room: Any = parallel(
                idle := nn.Linear(1, 1), torch.optim.SGD(idle.parameters()), AllReduceSGD(), self.on
            )

    # --- who is who --------------------------------------------------------------------------------------

    def set_world_ranks(self) -> None:
        """Let Lightning's own messages come from rank 0."""
        rank_zero_only.rank = self.global_rank

    @property
    def global_rank(self) -> int:
        return int(self.room.rank)

    @property
    def local_rank(self) -> int:
        return self.number_here

    @property
    def world_size(self) -> int:
        return int(self.room.size)

    @property
    def is_distributed(self) -> bool:
        """Whether Lightning deals rows among workers."""
        return self.world_size > 1

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        return {"num_replicas": self.world_size, "rank": self.global_rank}

    @property
    def root_device(self) -> torch.device:
        assert self.parallel_devices
        return self.parallel_devices[0]

    def model_to_device(self) -> None:
        assert self.model is not None
        self.model.to(self.root_device)

    # --- what workers agree on, before and between steps -------------------------------------------------

    def barrier(self, name: str | None = None) -> None:
        self.room.barrier()

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        return self.room.gather(obj)[src]

    def all_gather(self, tensor: torch.Tensor, group: Any = None, sync_grads: bool = False) -> torch.Tensor:
        if sync_grads:
            raise NotImplementedError("all_gather(sync_grads=True): no gradients travel with gathered tensors")
        return torch.stack(self.room.gather(tensor.detach()))

    def reduce(self, tensor: Any, group: Any = None, reduce_op: Any = "mean") -> Any:
        kind = str(getattr(reduce_op, "name", reduce_op) or "mean").lower()
        if kind in ("mean", "avg"):
            return self.room.mean(tensor)
        if kind != "sum":
            raise NotImplementedError(f"reduce() has 'mean' and 'sum', got {reduce_op!r}")
        return sum(self.room.gather(tensor))

    # --- training ----------------------------------------------------------------------------------------

    def setup_optimizers(self, trainer: Trainer) -> None:
        super().setup_optimizers(trainer)
        module, inner = self.lightning_module, list(trainer.strategy.optimizers)
        options = {"accumulate": trainer.accumulate_grad_batches, **self.options}
        made: Any = parallel(module, inner if len(inner) > 1 else inner[0], self.workers_do, self.on, **options)
        self.parallel, self.over = made, False
        self.optimizers = list(made.optimizers) if len(inner) > 1 else [made]

    def post_backward(self, closure_loss: torch.Tensor) -> None:
        """Make gradients final where a step follows, also after fewer passes than it accumulates."""
        module = self.lightning_module
        assert module is not None
        if module.automatic_optimization and not module.trainer.fit_loop._should_accumulate():
            self.parallel.synchronize()  # Lightning steps a single optimizer by itself

    def on_validation_start(self) -> None:
        if self.parallel is not None:
            self.looking.enter_context(self.parallel.consensus())

    def on_validation_end(self) -> None:
        self.looking.close()

    def on_train_end(self) -> None:
        """Leave the consensus in the model."""
        self.looking.close()
        assert self.lightning_module is not None
        with self.parallel.consensus():
            found = deepcopy(self.lightning_module.state_dict())
        self.parallel.close()
        self.over = True
        self.lightning_module.load_state_dict(found)

    def on_exception(self, exception: BaseException) -> None:
        if self.parallel is not None:
            self.parallel.close(exception)
        self.room.close(exception)

    # --- checkpoints -------------------------------------------------------------------------------------

    def lightning_module_state_dict(self) -> dict[str, Any]:
        with self.parallel.consensus() if self.parallel is not None else nullcontext():
            found: dict[str, Any] = deepcopy(super().lightning_module_state_dict())
        return found

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """Return nothing: every worker's own is in the folder beside the checkpoint."""
        return {}

    def save_checkpoint(self, checkpoint: Any, filepath: str | PathLike[str], storage_options: Any = None) -> None:
        self.looking.close()  # a callback at the end of validation saves
        if checkpoint.get("optimizer_states") and not self.over:
            self.parallel.save(workers_of(filepath), "Lightning's", keep=1)
        super().save_checkpoint(checkpoint, filepath, storage_options)

    def remove_checkpoint(self, filepath: str | PathLike[str]) -> None:
        super().remove_checkpoint(filepath)
        if self.is_global_zero:
            shutil.rmtree(workers_of(filepath), ignore_errors=True)

    def load_checkpoint(self, checkpoint_path: str | PathLike[str], *more: Any, **options: Any) -> dict[str, Any]:
        self.path = checkpoint_path
        found: dict[str, Any] = super().load_checkpoint(checkpoint_path, *more, **options)
        return found

    def load_optimizer_state_dict(self, checkpoint: Any) -> None:
        folder = workers_of(self.path)
        if self.parallel.restore(folder) is None:
            raise FileNotFoundError(
                f"{folder}, which every worker needs to go on, is not beside the checkpoint: it is written while "
                "`fit` goes on; load the weights of another checkpoint by LightningModule.load_from_checkpoint"
            )


def workers_of(filepath: str | PathLike[str]) -> str:
    """Return the folder beside a checkpoint that holds what each worker needs to go on."""
    return f"{filepath}.workers"
