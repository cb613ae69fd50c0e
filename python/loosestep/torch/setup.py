"""The arguments of `parallel`: checked, compared between workers, and printed as a banner; how it was launched."""

from __future__ import annotations

import inspect
import multiprocessing
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from loosestep.foundation import checks, units
from loosestep.runtime import banner
from loosestep.runtime.user_loop import check_strategy
from loosestep.torch.device_buffer import described, side
from loosestep.torch.hyperparameters import groups, options
from loosestep.transports.launched import launched as by_launcher
from loosestep.transports.matching import stable_repr
from loosestep.transports.processes.launchers import remedy

if TYPE_CHECKING:
    from loosestep.requests.worker import Worker
    from loosestep.strategies.base import Strategy
    from loosestep.torch.flat import Layout
    from loosestep.torch.shared_state import SharedState
    from loosestep.transports.base import ProcessTransport, Transport


BY_ITSELF = ("DistributedDataParallel", "FullyShardedDataParallel", "FSDPModule")
"""torch's own parallel modules."""


class RunOptions(NamedTuple):
    """The arguments of `parallel` that every worker must have alike."""

    strategy: Strategy
    accumulate: int
    seed: int
    steps_per_epoch: int | None

    def checked(self) -> RunOptions:
        """Return the same with numbers as int. Raises TypeError or ValueError for what cannot be."""
        check_strategy(self.strategy)
        epoch = None if self.steps_per_epoch is None else checks.integer("steps_per_epoch", self.steps_per_epoch)
        return RunOptions(
            self.strategy,
            checks.integer("accumulate", self.accumulate),
            checks.integer("seed", self.seed, 0),
            epoch,
        )


def check_model(model: nn.Module) -> None:
    """Refuse a model that averages gradients, or shards parameters, by itself."""
    for module in model.modules():
        kinds = {kind.__name__ for kind in type(module).__mro__}
        kind = next((kind for kind in BY_ITSELF if kind in kinds), None)
        if kind is not None:
            raise TypeError(
                f"the model is a {kind}, which makes workers meet by itself at every step: leave it out, and give "
                "parallel() the module that it was given (model.module)"
            )


def check_inner(inner: torch.optim.Optimizer) -> None:
    """Refuse an optimizer that takes several gradients to a step."""
    closure = inspect.signature(inner.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise TypeError(
            f"{type(inner).__name__} takes gradients by itself (its step() needs a closure), and a strategy's "
            "step has one: use an optimizer that steps without a closure"
        )
    if hasattr(inner, "first_step") and hasattr(inner, "second_step"):
        raise TypeError(
            f"{type(inner).__name__} makes a step of two (first_step() and second_step()), each with its own "
            "gradient, and a strategy's step has one: use the optimizer that it was given"
        )


def facts(
    run: RunOptions, inner: torch.optim.Optimizer, layout: Layout, state: SharedState | None
) -> dict[str, str]:
    """Return what every worker must have alike, by the name that an error gives it."""
    found = {name: stable_repr(value) for name, value in run._asdict().items()}
    found |= {"optimizer": type(inner).__name__, "parameters on": side(layout.params)}
    found |= options(inner) | groups(inner, layout) | (state.facts() if state else {})
    for number, slot in enumerate(layout.slots):
        param = slot.param
        rows = ", sparse gradients" if slot.rows else ""
        found[f"parameter {number}"] = f"{slot.name!r}: {tuple(param.shape)} {param.dtype}, {param.stride()}{rows}"
    return found


def launched() -> ProcessTransport:
    """Return what joins this process with those started beside it, Serial() if it is meant to be alone."""
    return by_launcher(check_spawned)


def check_spawned() -> None:
    """Refuse a process group, and what torch.multiprocessing.spawn started beside others: neither is joined."""
    group = torch.distributed
    count = group.get_world_size() if group.is_available() and group.is_initialized() else 1
    if count > 1:
        raise RuntimeError(
            f"torch.distributed has a process group of {count}, which parallel() does not join: each would train "
            f"alone, on all data. {remedy(count)}"
        )
    process = multiprocessing.current_process()
    target: Any = getattr(process, "_target", None)
    arguments: Any = getattr(process, "_args", ())  # function, rank, ...
    if getattr(target, "__module__", "") == "torch.multiprocessing.spawn" and arguments[1] > 0:
        raise RuntimeError(
            f"torch.multiprocessing.spawn started this process as number {arguments[1]} of several, which "
            f"parallel() does not join: each would train alone, on all data. {remedy('N')}"
        )


def scale(inner: torch.optim.Optimizer, factor: float) -> None:
    """Multiply every learning rate."""
    if factor == 1.0:
        return
    for group in inner.param_groups:
        if "initial_lr" in group:
            raise ValueError("scale_rate comes before a scheduler: make the scheduler on what parallel() returns")
        group["lr"] = group["lr"] * factor


def renormalized(model: nn.Module) -> list[str]:
    """Return a caution for each embedding whose forward pass changes parameters, beside all strategies."""
    return [
        f"warning: {name!r} has max_norm: the forward pass of a worker scales the rows that it reads, and those "
        "of no other worker, so replicas differ until parameters are averaged"
        for name, module in model.named_modules()
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.max_norm is not None
    ]


def print_banner(
    run: RunOptions,
    on: Transport,
    model: nn.Module,
    inner: torch.optim.Optimizer,
    worker: Worker,
    state: SharedState | None,
) -> None:
    """Print, on rank 0's standard error, what will be done, with what, and on what."""
    if worker.rank:
        return
    params, strategy = worker.params, run.strategy
    rates = {f"{float(group['lr']):.3g}" for group in inner.param_groups}
    facts = {
        repr(strategy): banner.summary(strategy),
        "workers": f"{worker.size} on {on!r}, {described(params)}",
        "model": f"{units.times(params.size, 'parameter')} of {params.dtype}, {units.size(params.nbytes)}",
        "a round": banner.a_round(strategy, worker.size, params.nbytes, params.itemsize),
        **banner.graphs([strategy], worker.size),
        "optimizer": f"{type(inner).__name__}, learning rate {', '.join(sorted(rates))}",
        "batches": f"{run.accumulate * worker.size} a step, {run.accumulate} of each worker",
        "threads": f"{torch.get_num_threads()} of torch in this worker, on {os.cpu_count()} cores",
    }
    if state:
        nbytes = units.size(params.nbytes + state.nbytes)
        facts["in common"] = f"parameters and optimizer state, {nbytes}, written without locks or atomics"
    cautions = [*banner.warnings([strategy], worker.size), *renormalized(model)]
    print(banner.block(facts), *cautions, sep="\n", file=sys.stderr, flush=True)
