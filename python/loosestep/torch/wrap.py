"""`parallel`: makes the optimizer of a PyTorch loop parallel; loop, model and optimizer stay the user's."""

from __future__ import annotations

from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import nn

from loosestep.foundation import checks
from loosestep.optimizers.schedules import SCALINGS
from loosestep.torch.buffers.statistics import Statistics
from loosestep.torch.group import ParallelGroup, models_of
from loosestep.torch.optimizer import Parallel
from loosestep.torch.setup import RunOptions, check_inner, check_model, launched
from loosestep.torch.shared_state import check_sharing
from loosestep.torch.within.optimizer import ParallelWithin, check_within
from loosestep.transports.base import Transport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loosestep.strategies.base import Strategy

Buffers = Literal["average", "rank0", "sync", "recompute", "own"]


@overload
def parallel(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    strategy: Strategy,
    on: Transport | None = None,
    *,
    accumulate: int = 1,
    buffers: Buffers | None = None,
    batch_norm: Literal["own", "sync"] = "own",
    scale_rate: Literal["none", "linear", "sqrt"] = "none",
    seed: int = 0,
    steps_per_epoch: int | None = None,
) -> Parallel: ...


@overload
def parallel(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    strategy: Strategy,
    on: Transport | None = None,
    *,
    seed: int = 0,
    steps_per_epoch: int | None = None,
    within: Any,
) -> ParallelWithin: ...


@overload
def parallel(
    model: nn.Module | Sequence[nn.Module],
    optimizer: Sequence[torch.optim.Optimizer],
    strategy: Strategy,
    on: Transport | None = None,
    *,
    accumulate: int | Sequence[int] = 1,
    buffers: Buffers | None = None,
    batch_norm: Literal["own", "sync"] = "own",
    scale_rate: Literal["none", "linear", "sqrt"] = "none",
    seed: int = 0,
    steps_per_epoch: int | None = None,
) -> ParallelGroup: ...


def parallel(
    model: nn.Module | Sequence[nn.Module],
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
    strategy: Strategy,
    on: Transport | None = None,
    *,
    accumulate: int | Sequence[int] = 1,
    buffers: Buffers | None = None,
    batch_norm: Literal["own", "sync"] = "own",
    scale_rate: Literal["none", "linear", "sqrt"] = "none",
    seed: int = 0,
    steps_per_epoch: int | None = None,
    within: Any = None,
) -> Parallel | ParallelGroup | ParallelWithin:
    """Return an optimizer that trains `model` with a strategy, in the loop that you already have.

    Each `step()` of worker i does this; which parts a strategy has, and on which steps, its own docstring says:

        g_i <- average of all g_j             where the strategy averages gradients (`AllReduceSGD`)
        x_i <- optimizer(x_i, g_i)            the step of the torch optimizer that you pass
        x_i <- strategy(x_1, ..., x_n)        where a round ends: the mean, a move to the center, neighbors' values

    With one worker and a strategy whose average is then the identity, the bits are those of plain torch.

    model, optimizer: as in a single process; `optimizer` may be any of torch's that steps without a closure.
        Parameters must be float32, float64, bfloat16 or float16, on the CPU or on one NVIDIA GPU (docs/cuda.md).
        All workers start from rank 0's parameters and buffers. Where dtypes differ, averages and centers are of
        the widest (at least float32), and what comes back is rounded to each parameter's. Make learning-rate
        schedulers afterwards, on the optimizer that is returned. Of lists of optimizers and models, as for a GAN,
        what is returned has as `optimizers` one for each, which step apart, and one consensus, checkpoint and end:
        see `ParallelGroup`.
    strategy: when and how workers combine their work, such as `LocalSGD(period=8)`.
    on: the transport; by default `world()`: MPI() in a process that an MPI launcher started, ZMQ() under torchrun,
        srun without MPI, and wherever RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT are set, Serial() otherwise. A
        process that was started as one of several and cannot join them is refused, for it would train alone;
        on=Serial() allows that.
    accumulate: backward passes to a step; of several optimizers one number for each, or one for all.
    buffers: the running statistics of BatchNorm (floating-point buffers; others are set to rank 0's at the
        start) with which `consensus()` evaluates: the 'average' over workers, those of 'rank0', each worker's
        'own', or 'recompute'd from the batches that are given to it. By default 'average' where the strategy's
        consensus is collective and 'own' where it is one-sided. While training each worker keeps its own, but
        'sync' sets all to the average whenever a round ends: for codebooks, normalizers, and running means that
        training itself reads.
    batch_norm: 'sync' lets BatchNorm layers normalize with the statistics of all workers' batches together, as
        torch's SyncBatchNorm layers always do. 'own' are those of this worker's batch.
    scale_rate: multiply the learning rate by the number of workers ('linear'), by its square root ('sqrt'), or
        leave it ('none').
    seed: of what a strategy draws at random, such as the noise of `EntropySGD`; not of your data or model.
    steps_per_epoch: steps in an epoch of this loop, such as len(loader), for `Stages`. At the end of a stage the
        step() of all workers goes to the consensus, and the optimizer's buffers become their mean.
    within: a DeviceMesh or process group of torch.distributed, of the processes that are one worker together: the
        model is DDP or FSDP2 (`fully_shard`) over them, and the strategy is between such groups. See
        `ParallelWithin` for what is returned.

    Raises TypeError or ValueError for bad input, and for a strategy that needs more than a loop of your own can
    give; RuntimeError where a process would train alone, and where another open `parallel()` has a parameter;
    Mismatch where workers differ in what they must have alike, such as the learning rate.

    >>> import loosestep as ls, loosestep.torch, torch
    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    >>> optimizer = loosestep.torch.parallel(model, optimizer, ls.EASGD(period=10), ls.Serial())
    >>> rows = torch.utils.data.TensorDataset(torch.eye(2).repeat(200, 1), torch.ones(400, 1))
    >>> loader = torch.utils.data.DataLoader(rows, batch_sampler=optimizer.shard(rows, batch_size=4))
    >>> with optimizer:
    ...     for x, y in loader:
    ...         optimizer.zero_grad()
    ...         loss = ((model(x) - y) ** 2).mean()
    ...         loss.backward()
    ...         loss = optimizer.step()
    >>> optimizer.once(lambda: [round(weight, 2) for weight in model.weight[0].tolist()])
    [1.0, 1.0]

    Leave `on` out in a script that several processes run, as `loosestep run -n 4 train.py` starts them. `with
    optimizer:` tells the others when this worker's data ends; left out, that is when the script ends.

    Every step weighs the same in an average, so workers' batches should be of one size, as those of `shard` are.
    Under `DBS` batches must be those of `shard`, whose sizes follow the workers' speeds, and they weigh by their
    rows. Speeds, and the times of `AdaptiveLocalSGD(time_share=)`, are measured from the forward pass to step().
    Under `FedAvg(fraction=)` a worker that rests waits in `ready()`: see there. Where gradients are averaged, a
    parameter that a worker did not use counts with gradient zero.

    What requires a gradient now can be trained. Freeze it afterwards, on all workers at one step, and it rests
    (though averages, a center and outer momenta may move it); what begins to be trained later is refused. For
    several backward passes, GANs, recomputation and a second `parallel()` see docs/torch.md.

    Under Hogwild(adds="racy"), on one host, all workers share one memory of parameters and optimizer state
    (moments, step counters), which torch writes without locks or atomics, also while others take gradients
    there: an update of an element may be lost. To find its state the optimizer makes a step with gradient zero,
    which is undone. Of embeddings with sparse=True only rows that were used are updated. Load a model's state
    dict before its optimizer's, which waits for the others.
    """
    listed = isinstance(model, (list, tuple)) or isinstance(optimizer, (list, tuple))
    models: Sequence[Any] = model if isinstance(model, (list, tuple)) else [model]
    optimizers: Sequence[Any] = optimizer if isinstance(optimizer, (list, tuple)) else [optimizer]
    counts: Sequence[Any] = accumulate if isinstance(accumulate, (list, tuple)) else [accumulate] * len(optimizers)
    runs = [RunOptions(strategy, each, seed, steps_per_epoch).checked() for each in counts]
    check_sharing(strategy)
    if on is not None:
        checks.instance("on", on, Transport)
    if within is not None:
        if listed or accumulate != 1 or buffers is not None or batch_norm != "own" or scale_rate != "none":
            raise ValueError(
                "within= takes one model and one optimizer, and no accumulate, buffers, batch_norm or scale_rate"
            )
        checks.instance("model", model, nn.Module)
        check_within(models[0], strategy)
        check_inner(optimizers[0])
        between = partial(parallel, strategy=strategy, seed=seed, steps_per_epoch=steps_per_epoch)
        return ParallelWithin(models[0], optimizers[0], within, on or launched(), between)
    check_lists(models, optimizers, counts)
    checks.one_of("scale_rate", scale_rate, tuple(SCALINGS))
    wholes = models_of(models, optimizers) if listed else models
    kinds = [buffers if whole not in wholes[:number] else "own" for number, whole in enumerate(wholes)]
    statistics = [Statistics(*each, batch_norm) for each in zip(wholes, repeat(strategy), kinds)]
    on, made = on or launched(), []
    try:
        for whole, inner, run, its in zip(wholes, optimizers, runs, statistics, strict=True):
            made.append(Parallel(whole, inner, run, on, its, scale_rate))
    except BaseException as error:
        for each in made:
            each.close(error)
        raise
    return ParallelGroup(models, made) if listed else made[0]


def check_lists(models: Sequence[Any], optimizers: Sequence[Any], counts: Sequence[Any]) -> None:
    """Refuse what is no model or optimizer, and what parallel() cannot train."""
    for model in models:
        checks.instance("model", model, nn.Module)
        check_model(model)
    for optimizer in optimizers:
        checks.instance("optimizer", optimizer, torch.optim.Optimizer)
        check_inner(optimizer)
    if not models or not optimizers:
        raise ValueError(f"parallel() needs a model and an optimizer, got {len(models)} and {len(optimizers)}")
    if len(counts) != len(optimizers):
        raise ValueError(f"accumulate has {len(counts)} numbers, and there are {len(optimizers)} optimizers")
