"""`parallel`: a user's PyTorch loop made parallel, and still the user's loop, model and optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from loosestep.foundation import checks
from loosestep.optimizers.schedules import SCALINGS
from loosestep.torch.batch_norm import Statistics
from loosestep.torch.optimizer import Parallel
from loosestep.torch.setup import Run, check_inner, check_model, launched
from loosestep.torch.shared_state import check_sharing
from loosestep.transports.base import Transport

if TYPE_CHECKING:
    from loosestep.strategies.base import Strategy


def parallel(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    strategy: Strategy,
    on: Transport | None = None,
    *,
    accumulate: int = 1,
    buffers: Literal["average", "rank0", "recompute", "own"] | None = None,
    scale_rate: Literal["none", "linear", "sqrt"] = "none",
    seed: int = 0,
    steps_per_epoch: int | None = None,
) -> Parallel:
    """Train `model` with a strategy, in the loop that is there; use what it returns as the optimizer.

    model, optimizer: as in a single process; `optimizer` may be any of torch's that steps without a closure.
        Parameters must be float32, float64, bfloat16 or float16, on the CPU or on one NVIDIA card (docs/cuda.md);
        rank 0's values, and its buffers', are the start of all. Where dtypes differ, averages and centers are of
        the widest (at least float32), and what comes back is rounded to each parameter's. Make learning-rate
        schedulers afterwards, on what is returned.
    on: the transport; by default MPI() in a process that an MPI launcher started, Serial() otherwise. A process
        that torchrun, srun without MPI or torch.multiprocessing.spawn started as one of several is refused, for it
        would train alone; on=Serial() says that it shall.
    accumulate: backward passes to a step.
    buffers: the running statistics of BatchNorm (floating-point buffers; others are rank 0's at the start) that
        `consensus()` evaluates with: the 'average' over workers, those of 'rank0', each worker's 'own', or
        'recompute'd from the batches that are given to it. By default 'average' where the strategy's consensus is
        collective and 'own' where it is one-sided. While training each worker keeps its own.
    scale_rate: multiply the learning rate by the number of workers ('linear'), by its square root, or by nothing.
    seed: of whatever a strategy draws at random, such as the noise of `EntropySGD`; not of your data or model.
    steps_per_epoch: steps in an epoch of this loop, such as len(loader), for a `Stages`. Where a part of it ends
        all workers go to the consensus, in that step(); the optimizer's buffers become their mean.

        optimizer = loosestep.torch.parallel(model, optimizer, loosestep.EASGD(period=10))
        with optimizer:
            for x, y in DataLoader(data, batch_sampler=optimizer.shard(data, batch_size=64)):
                optimizer.zero_grad()
                loss(model(x), y).backward()
                optimizer.step()
        optimizer.once(torch.save, model.state_dict(), "model.pt")

    `with optimizer:` says when this worker's data ends, so that the others need not wait for it; left out, that is
    when the script ends.

    Every step weighs the same in an average, so workers' batches should be of one size, as those of `shard` are.
    Under `DBS` batches must be those of `shard`, whose sizes follow the workers' speeds, and weigh by their rows.
    Speeds, and the times of `AdaptiveLocalSGD(time_share=)`, are those from the forward pass to step(). Under
    `FedAvg(fraction=)` a worker that rests waits in `ready()`: see there.
    Where gradients are averaged, a parameter that a worker did not use counts with gradient zero.

    What requires a gradient now is what can be trained: freeze it afterwards, on all workers at one step, and it
    rests (though averages, a center and outer momenta may move it); what begins to be trained later is refused. Of
    several backward passes, of GANs, of recomputation and of a second `parallel()`: docs/torch.md.

    Under Hogwild(adds="racy"), on one host, parameters and the optimizer's state (moments, step counters) are one
    memory for all workers, which torch writes without locks or atomics, also while others take gradients there: an
    update of an element may be lost. To find its state the optimizer makes a step with gradient zero, which is
    undone. Of embeddings with sparse=True only rows that were used are updated. Load a model's state dict before
    its optimizer's, which waits for the others.

    Raises TypeError or ValueError for bad input, and for a strategy that a loop of the user's cannot serve;
    RuntimeError where a process would train alone, and where another open `parallel()` has a parameter; Mismatch
    where workers differ in what they must have alike, such as the learning rate.
    """
    run = Run(strategy, accumulate, seed, steps_per_epoch).checked()
    check_sharing(strategy)
    checks.instance("model", model, nn.Module)
    checks.instance("optimizer", optimizer, torch.optim.Optimizer)
    check_model(model)
    check_inner(optimizer)
    if on is not None:
        checks.instance("on", on, Transport)
    checks.one_of("scale_rate", scale_rate, tuple(SCALINGS))
    statistics = Statistics(model, strategy, buffers)
    return Parallel(model, optimizer, run, on or launched(), statistics, scale_rate)
