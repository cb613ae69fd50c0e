"""The state dict of a parallel optimizer: that of the inner one, and this worker's part of the run, as tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from loosestep.foundation.errors import CheckpointError
from loosestep.runtime.checkpoint.loop_state import saved

if TYPE_CHECKING:
    from loosestep.runtime.user_loop import Loop

Saved = dict[str, Any]


def parallel_state(inner: torch.optim.Optimizer, loop: Loop) -> Saved:
    """Return the inner optimizer's state dict, and this worker's part of the run."""
    part = saved(loop)
    tensors = {name: torch.from_numpy(array) for name, array in part["tensors"].items()}
    return {"optimizer": inner.state_dict(), "loosestep": {**part, "tensors": tensors}}


def is_plain(state_dict: Any) -> bool:
    """Return whether a state dict is that of a plain torch optimizer."""
    return isinstance(state_dict, dict) and set(state_dict) == {"state", "param_groups"}


def own_part(state_dict: Saved) -> Saved:
    """Return what `parallel_state` added to the inner optimizer's, with arrays in place of tensors.

    Raises CheckpointError for another kind of dict.
    """
    if not isinstance(state_dict, dict) or set(state_dict) != {"optimizer", "loosestep"}:
        raise CheckpointError(
            "this state dict is neither of an optimizer that parallel() made nor of a plain torch optimizer"
        )
    part: Saved = state_dict["loosestep"]
    tensors = part["tensors"].items()
    return {**part, "tensors": {name: tensor.cpu().numpy() for name, tensor in tensors}}
