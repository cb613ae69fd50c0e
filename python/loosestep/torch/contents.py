"""What a model and an optimizer hold, as tensors and facts of a checkpoint, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from loosestep.foundation.errors import CheckpointError
from loosestep.torch.flat import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer
    from loosestep.runtime.checkpoint.folder import Facts
    from loosestep.torch.flat import Layout

Tensors = dict[str, Any]
HALF = (torch.bfloat16, torch.float16)


# --- values ------------------------------------------------------------------------------------------------


def array(name: str, tensor: torch.Tensor) -> Buffer:
    """For a file: half types as float32, which holds them exactly and is rounded to the same when it is loaded."""
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise TypeError(
            f"save() cannot write {name}: it is no plain dense tensor, but {tensor.layout} {tensor.dtype}"
        )
    values = (tensor.float() if tensor.dtype in HALF else tensor).detach().cpu().resolve_conj().resolve_neg()
    try:
        found: Buffer = values.numpy()
    except TypeError as error:
        raise TypeError(f"save() cannot write {name}: {tensor.dtype} is a dtype that numpy lacks") from error
    return found


def packed(name: str, value: Any, tensors: Tensors) -> Any:
    """A value as JSON that says its kind; tensors in it go into `tensors`. Raises TypeError that names it."""
    if value is None or isinstance(value, (bool, int, str)) or type(value) is float:
        return value
    if isinstance(value, torch.Tensor):
        tensors[name] = array(name, value)
        return {"tensor": name, "dtype": str(value.dtype).removeprefix("torch.")}
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return {"numpy": value.dtype.name, "value": value.item()}
    if isinstance(value, (list, tuple)):
        items = [packed(f"{name}.{place}", each, tensors) for place, each in enumerate(value)]
        return items if type(value) is list else {"tuple": items}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: packed(f"{name}.{key}", each, tensors) for key, each in value.items()}}
    kind = (
        "a dict whose keys are not all strings" if isinstance(value, dict) else f"of type {type(value).__name__}"
    )
    raise TypeError(
        f"save() cannot write {name}, which is {kind}: it keeps numbers, strings, tensors, and lists, tuples and "
        "dicts of those"
    )


def unpacked(value: Any, tensors: Tensors) -> Any:
    """What `packed` was given."""
    if isinstance(value, list):
        return [unpacked(each, tensors) for each in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"tensor", "dtype"}:
        return torch.from_numpy(tensors[value["tensor"]].copy()).to(getattr(torch, value["dtype"]))
    if set(value) == {"numpy", "value"}:
        return np.dtype(value["numpy"]).type(value["value"])
    if set(value) == {"tuple"}:
        return tuple(unpacked(each, tensors) for each in value["tuple"])
    if set(value) == {"dict"}:
        return {key: unpacked(each, tensors) for key, each in value["dict"].items()}
    return value  # as format 1 has it


# --- the optimizer -----------------------------------------------------------------------------------------


def of_optimizer(inner: torch.optim.Optimizer, tensors: Tensors) -> Facts:
    """Its groups and states; what is a tensor goes into `tensors`."""
    whole = inner.state_dict()
    groups = [
        {key: packed(f"{key!r} of the optimizer's group {place}", value, tensors) for key, value in group.items()}
        for place, group in enumerate(whole["param_groups"])
    ]
    states = {}
    for index, values in whole["state"].items():
        if type(index) is not int:
            raise TypeError(
                f"the optimizer keeps a state under {index!r}, which is no parameter: save() cannot write it"
            )
        states[str(index)] = {
            name: packed(f"optimizer.{index}.{name}", each, tensors) for name, each in values.items()
        }
    return {"groups": groups, "state": states}


def check_optimizer(inner: torch.optim.Optimizer, kept: Facts, where: str) -> None:
    """Refuse other groups than this optimizer's, before anything is changed."""
    there, here = ([len(group["params"]) for group in each] for each in (kept["groups"], inner.param_groups))
    if "state" not in kept or there != here:
        raise CheckpointError(
            f"{where} holds an optimizer whose groups are of {there} parameters, and this run's are of {here}"
        )


def into_optimizer(inner: torch.optim.Optimizer, tensors: Tensors, kept: Facts) -> None:
    """Load what `of_optimizer` wrote."""
    state: dict[int, Any] = {
        int(index): {name: unpacked(each, tensors) for name, each in values.items()}
        for index, values in kept["state"].items()
    }
    for name, tensor in tensors.items():  # of format 1, which does not mention them
        kind, _, rest = name.partition(".")
        if kind == "optimizer":
            index, _, key = rest.partition(".")
            if key not in state[int(index)]:
                state[int(index)][key] = torch.from_numpy(tensor.copy())
    groups = [{key: unpacked(each, tensors) for key, each in group.items()} for group in kept["groups"]]
    inner.load_state_dict({"state": state, "param_groups": groups})


# --- the model ---------------------------------------------------------------------------------------------


class Rest:
    """What a model holds beside its trained parameters: buffers, frozen ones, states that modules give."""

    def __init__(self, model: nn.Module, layout: Layout) -> None:
        self.model, self.layout = model, layout

    def own_states(self) -> dict[str, nn.Module]:
        """Modules with a `get_extra_state`, by the name that their state has."""
        return {
            f"{name}._extra_state".removeprefix("."): module
            for name, module in self.model.named_modules()
            if type(module).get_extra_state is not nn.Module.get_extra_state
        }

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Those that are no trained parameter, by name."""
        trained = {slot.param.data_ptr() for slot in self.layout.slots}
        own = self.own_states()
        for name, each in self.model.state_dict().items():
            if name not in own and each.data_ptr() not in trained:
                yield plain(name), each

    def save(self, tensors: Tensors) -> Facts:
        """Everything: tensors go into `tensors`, the rest is returned."""
        for name, each in self.tensors():
            tensors[f"model.{name}"] = array(f"{name!r} of the model", each)
        return {
            plain(name): packed(f"{name!r} of the model", module.get_extra_state(), tensors)
            for name, module in self.own_states().items()
        }

    def check(self, tensors: Tensors, kept: Facts, where: str) -> None:
        """Refuse what this model cannot take, before anything is changed."""
        for name, tensor in self.tensors():
            if (found := tensors.get(f"model.{name}")) is None or found.shape != tuple(tensor.shape):
                raise CheckpointError(
                    f"{where} does not hold {name!r} of the model, of shape {tuple(tensor.shape)}"
                )
        for name in self.own_states():
            if plain(name) not in kept:
                raise CheckpointError(f"{where} does not hold {plain(name)!r} of the model")

    def load(self, tensors: Tensors, kept: Facts) -> None:
        """Put everything back."""
        with torch.no_grad():
            for name, tensor in self.tensors():
                tensor.copy_(torch.from_numpy(tensors[f"model.{name}"]))
        for name, module in self.own_states().items():
            module.set_extra_state(unpacked(kept[plain(name)], tensors))
