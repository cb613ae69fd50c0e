"""What a process holds of tensors that FSDP2 divides among the processes of a group."""

from __future__ import annotations

from typing import Any

import torch

KEYS = {"local", "shape", "stride", "placements"}
REPLICATED = -1  # in place of a dimension


def local_of(tensor: Any) -> Any:
    """Return this process's part of a tensor, in its own memory: the shard of a DTensor, else all of it."""
    found = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return found.detach()


def parts_of(value: Any) -> Any:
    """Return a value with this process's part, and how it was divided, in place of each DTensor.

    Raises TypeError for one that is divided otherwise than FSDP2 does.
    """
    if hasattr(value, "to_local"):
        from torch.distributed.tensor import Replicate, Shard

        kinds = {type(placement) for placement in value.placements}
        if not kinds <= {Shard, Replicate}:
            raise TypeError(f"save() cannot write a tensor that is divided by {value.placements}")
        dims = [getattr(placement, "dim", REPLICATED) for placement in value.placements]
        of_all = {"shape": list(value.shape), "stride": list(value.stride()), "placements": dims}
        return {"local": local_of(value), **of_all}
    if isinstance(value, dict):
        return {key: parts_of(each) for key, each in value.items()}
    return value


def whole_of(value: Any, param: Any) -> Any:
    """Return what `parts_of` was given, divided as the parameter is."""
    if not isinstance(value, dict):
        return value
    if set(value) != KEYS:
        return {key: whole_of(each, param) for key, each in value.items()}
    from torch.distributed.tensor import DTensor, Replicate, Shard

    dims = value["placements"]
    return DTensor.from_local(
        value["local"].to(param.device),
        param.device_mesh,
        [Replicate() if dim == REPLICATED else Shard(dim) for dim in dims],
        run_check=False,
        shape=torch.Size(value["shape"]),
        stride=tuple(value["stride"]),
    )
