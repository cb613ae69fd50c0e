"""The arguments of `parallel`: checked, compared between workers, and printed as a banner."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import optax

from loosestep.foundation import checks, units
from loosestep.runtime import banner
from loosestep.runtime.user_loop import check_strategy
from loosestep.transports.matching import stable_repr

if TYPE_CHECKING:
    from loosestep.jax.tree import Layout
    from loosestep.requests.worker import Worker
    from loosestep.strategies.base import Strategy
    from loosestep.transports.base import Transport


class RunOptions(NamedTuple):
    """The arguments of `parallel` that every worker must have alike."""

    strategy: Strategy
    seed: int
    steps_per_epoch: int | None

    def checked(self) -> RunOptions:
        """Return the same with numbers as int. Raises TypeError or ValueError for what cannot be."""
        check_strategy(self.strategy)
        epoch = None if self.steps_per_epoch is None else checks.integer("steps_per_epoch", self.steps_per_epoch)
        return RunOptions(self.strategy, checks.integer("seed", self.seed, 0), epoch)


def check_optimizer(inner: Any) -> None:
    """Refuse what is no optax optimizer."""
    if not (callable(getattr(inner, "init", None)) and callable(getattr(inner, "update", None))):
        raise TypeError(f"optimizer must be one of optax, such as optax.adam(1e-3), got {type(inner).__name__}")


def check_apart(strategy: Strategy, size: int) -> None:
    """Refuse workers that would share arrays."""
    if strategy.shared_buffers and size > 1:
        raise TypeError(
            f"{strategy} has all workers write one memory of parameters, and JAX's arrays do not change: use "
            "loosestep.run with loosestep.jax.Model, which keeps parameters in loosestep's own memory"
        )


def facts(run: RunOptions, layout: Layout, state: Any) -> dict[str, str]:
    """Return what every worker must have alike, by the name that an error gives it."""
    found = {name: stable_repr(value) for name, value in run._asdict().items()}
    for number, leaf in enumerate(layout.leaves):
        found[f"parameter {number}"] = f"{layout.names[number]}: {leaf.shape} {leaf.dtype}"
    found |= {"optimizer": kind_of(state), "optimizer state": shapes_of(state)}
    return found | {f"optimizer's {name}": repr(value) for name, value in sorted(hyperparameters(state).items())}


def kind_of(state: Any) -> str:
    """Return the names of what an optimizer's state consists of: optax's optimizers have no other name."""
    names = re.findall(r"namedtuple\[(\w+)\]", str(jax.tree_util.tree_structure(state)))
    return " ".join(dict.fromkeys(names)) or "no state"


def shapes_of(state: Any) -> str:
    """Return the arrays of an optimizer's state in words."""
    found = [f"{jax.numpy.shape(leaf)} {jax.numpy.result_type(leaf)}" for leaf in jax.tree_util.tree_leaves(state)]
    return f"{units.times(len(found), 'array')}: {', '.join(sorted(set(found)))}" if found else "none"


def hyperparameters(state: Any) -> dict[str, float]:
    """Return the numbers that `optax.inject_hyperparams` keeps in the state."""
    found = optax.tree_utils.tree_get_all_with_path(state, "hyperparams")
    pairs = [pair for _, values in found for pair in values.items()]
    return {name: float(value) for name, value in pairs if jax.numpy.ndim(value) == 0}


def print_banner(run: RunOptions, on: Transport, state: Any, worker: Worker) -> None:
    """Print, on rank 0's standard error, what will be done, with what, and on what."""
    if worker.rank:
        return
    params, strategy = worker.params, run.strategy
    told = {
        repr(strategy): banner.summary(strategy),
        "workers": f"{worker.size} on {on!r}",
        "model": f"{units.times(params.size, 'parameter')} of {params.dtype}, {units.size(params.nbytes)}",
        "a round": banner.a_round(strategy, worker.size, params.nbytes, params.itemsize),
        **banner.graphs([strategy], worker.size),
        "optimizer": f"optax, {kind_of(state)}",
        "threads": f"of XLA in this worker, on {os.cpu_count()} cores",
    }
    cautions = banner.warnings([strategy], worker.size)
    print(banner.block(told), *cautions, sep="\n", file=sys.stderr, flush=True)
