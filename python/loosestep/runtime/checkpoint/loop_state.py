"""One worker's part of a run in a loop of the user's, as arrays and JSON, and back."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np

from loosestep.foundation import buffers
from loosestep.foundation.buffers import here, is_buffer
from loosestep.foundation.errors import CheckpointError
from loosestep.requests import AllReduce, Fetch, Shared
from loosestep.runtime.checkpoint.state import TOTALS, from_json, place, to_json
from loosestep.strategies.base import leaves
from loosestep.transports.matching import stable_repr

if TYPE_CHECKING:
    from loosestep.runtime.user_loop import Loop

Saved = dict[str, Any]


def identity(loop: Loop) -> Saved:
    """Return what a saved state must have in common with the run that loads it."""
    worker = loop.worker
    return {"strategy": stable_repr(loop.program.plan.strategy), "rank": worker.rank, "size": worker.size}


def saved(loop: Loop) -> Saved:
    """Return position, counters, and the strategy's state by name; shared variables are in rank 0's part."""
    tensors, numbers = {}, {}
    position = loop.position()
    loop.drain()
    for name, _, _, value in leaves(loop.program.state):
        if is_buffer(value):
            tensors[name] = np.array(here(value))
        elif not isinstance(value, Shared):
            numbers[name] = deepcopy(to_json(loop.program, name, value))  # lists go on changing
        elif loop.worker.rank == 0:
            tensors[name] = fetched(loop, value)
            numbers[name] = loop.connection.session.version(value)
    totals = {name: getattr(loop.model, attribute) for name, attribute in TOTALS.items()}
    return {**identity(loop), "position": position, "totals": totals, "tensors": tensors, "numbers": numbers}


def fetched(loop: Loop, shared: Shared) -> Any:
    """Return a shared variable's values."""
    if loop.over:
        raise RuntimeError(
            f"the run has ended, and {shared.name!r} with it: call state_dict() inside `with optimizer:`"
        )
    values = buffers.zeros(shared.size, shared.dtype)
    loop.connection.run_unmetered([Fetch(shared, into=values)])
    return values


def check_identity(loop: Loop, state: Saved) -> None:
    """Refuse another worker's state, where workers differ, or that of another strategy."""
    one_for_all = loop.program.plan.strategy.all_alike
    for name, wanted in identity(loop).items():
        if state[name] != wanted and not (one_for_all and name in ("rank", "size")):
            hint = "" if name == "strategy" else ": every worker saves and loads its own, or use save(folder)"
            raise CheckpointError(
                f"the state dict is of {name} {state[name]}, and this worker's {name} is {wanted}{hint}"
            )


def restored(loop: Loop, state: Saved) -> None:
    """Go to where the state was saved; all workers call it, so that none goes on from an old center."""
    check_identity(loop, state)
    loop.drain()
    loop.program.enter(state["position"]["part"])
    for name, holder, key, value in leaves(loop.program.state):
        found = state["tensors"].get(name)
        if is_buffer(value):
            place(value, found, name, "the state dict")
        elif not isinstance(value, Shared):
            setattr(holder, key, deepcopy(from_json(state["numbers"][name])))
        elif loop.worker.rank == 0:
            loop.connection.session.store(value, found, state["numbers"].get(name, 0))
    for name, attribute in TOTALS.items():
        setattr(loop.model, attribute, state["totals"][name])
    loop.connection.run_unmetered([AllReduce(np.zeros(1), op="max")])
    loop.go_to(state["position"])
