"""A Trainer of transformers whose process is one of loosestep's workers."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DistributedSampler
from transformers import Trainer

from loosestep.torch.frameworks.accelerate import take_rank
from loosestep.torch.frameworks.launcher import hidden_launcher

if TYPE_CHECKING:
    from transformers.trainer_utils import EvalLoopOutput

    from loosestep.torch.optimizer import Parallel


class ParallelTrainer(Trainer):
    """A Trainer whose first optimizer is what `parallel` returned.

        optimizer = loosestep.torch.parallel(model, AdamW(...), LocalSGD(8), accumulate=2)
        with hidden_launcher():
            arguments = TrainingArguments("out", gradient_accumulation_steps=2)
            trainer = ParallelTrainer(model, arguments, train_dataset=rows, optimizers=(optimizer, None))
        with optimizer:
            trainer.train(resume_from_checkpoint=resume)

    `per_device_train_batch_size` is one worker's batch. Clipping, accumulation, schedules, callbacks and early
    stopping are Trainer's. Rank 0 logs and writes. `evaluate` is done by rank 0 with the consensus, and all get
    its metrics; weights in a checkpoint are the consensus, and its folder `workers` holds what each worker needs
    to go on with the same bits: all ranks must see `output_dir`. load_best_model_at_end is for strategies without
    a center: under one (EASGD) load the best checkpoint after the block, into what is then a plain model.
    """

    def __init__(self, *positional: Any, **named: Any) -> None:
        with hidden_launcher():
            super().__init__(*positional, **named)
        self.parallel: Parallel = self.optimizer
        take_rank(self.args.distributed_state, self.parallel.rank)
        self.state.is_world_process_zero = self.state.is_local_process_zero = self.parallel.rank == 0

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Return a sampler of this worker's rows; Trainer tells it the epoch, and skips what was used of it."""
        way = self.args.train_sampling_strategy
        if self.parallel.size == 1:
            return super()._get_train_sampler(train_dataset)
        if way not in ("random", "sequential"):
            raise ValueError(
                f"train_sampling_strategy must be 'random' or 'sequential' for several workers, got {way!r}"
            )
        data = self.train_dataset if train_dataset is None else train_dataset
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return DistributedSampler(data, self.parallel.size, self.parallel.rank, shuffle=way == "random", seed=seed)

    def training_step(self, *positional: Any, **named: Any) -> torch.Tensor:
        """Make gradients final where a step follows, also after fewer passes than it accumulates."""
        loss = super().training_step(*positional, **named)
        if self.accelerator.sync_gradients:
            self.parallel.synchronize()
        return loss

    def evaluation_loop(self, *positional: Any, **named: Any) -> EvalLoopOutput:
        """Return what rank 0 finds with the consensus."""
        action = partial(super().evaluation_loop, *positional, **named)
        found: Any = self.parallel.once(action, everywhere=True)
        return found

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the consensus, on rank 0."""
        self.parallel.once(super().save_model, output_dir, _internal_call)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        self.parallel.save(os.path.join(output_dir, "workers"), self.lr_scheduler.state_dict(), keep=1)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        folder = os.path.join(checkpoint, "workers")
        scheduler = self.parallel.restore(folder)
        if scheduler is None:
            raise FileNotFoundError(f"{folder}, which every worker needs to go on, is not there or not complete")
        self.lr_scheduler.load_state_dict(scheduler)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(self.own_folder(output_dir))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(None if checkpoint is None else self.own_folder(checkpoint))

    def own_folder(self, checkpoint: str) -> str:
        """Return this worker's folder in a checkpoint, for random states as Trainer keeps them."""
        folder = os.path.join(checkpoint, f"random-{self.parallel.rank}")
        os.makedirs(folder, exist_ok=True)
        return folder
