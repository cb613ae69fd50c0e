"""A model and an optimizer as tensors and JSON of a checkpoint, and back."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from loosestep.foundation.errors import CheckpointError
from loosestep.torch.flat import plain
from loosestep.torch.within.dtensors import local_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer
    from loosestep.runtime.checkpoint.folder import Facts
    from loosestep.torch.flat import Layout

Tensors = dict[str, Any]
HALF = (torch.bfloat16, torch.float16)


# --- values ------------------------------------------------------------------------------------------------


def to_array(name: str, tensor: torch.Tensor) -> Buffer:
    """Return a tensor, or this process's part of it, as an array: half types as float32, which holds them."""
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise TypeError(
            f"save() cannot write {name}: it is no plain dense tensor, but {tensor.layout} {tensor.dtype}"
        )
    tensor = local_of(tensor)
    values = (tensor.float() if tensor.dtype in HALF else tensor).cpu().resolve_conj().resolve_neg()
    try:
        found: Buffer = values.numpy()
    except TypeError as error:
        raise TypeError(f"save() cannot write {name}: {tensor.dtype} is a dtype that numpy lacks") from error
    return found


def encode(name: str, value: Any, tensors: Tensors) -> Any:
    """Return a value as JSON that says its kind, and put tensors in it into `tensors`.

    Raises TypeError that names it.
    """
    if value is None or isinstance(value, (bool, int, str)) or type(value) is float:
        return value
    if isinstance(value, torch.Tensor):
        name = free(name, tensors)
        tensors[name] = to_array(name, value)
        return {"tensor": name, "dtype": str(value.dtype).removeprefix("torch.")}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        name = free(name, tensors)
        tensors[name] = np.ascontiguousarray(value)
        return {"array": name, "shape": list(value.shape)}
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return {"numpy": value.dtype.name, "value": value.item()}
    if isinstance(value, (list, tuple)):
        items = [encode(f"{name}.{place}", each, tensors) for place, each in enumerate(value)]
        return items if type(value) is list else {"tuple": items}
    if isinstance(value, dict):
        return encode_dict(name, value, tensors)
    raise TypeError(
        f"save() cannot write {name}, which is of type {type(value).__name__}: it keeps numbers, strings, "
        "tensors, arrays, and lists, tuples and dicts of those"
    )


def free(name: str, tensors: Tensors) -> str:
    """Return a name that no tensor has: {"a": {"b": x}, "a.b": y} has two of one name."""
    while name in tensors:
        name += "'"
    return name


def encode_dict(name: str, value: dict[Any, Any], tensors: Tensors) -> Any:
    """Return a dict as JSON that says its kind, and those of its keys where they are not all strings."""
    if type(value) in (dict, OrderedDict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: encode(f"{name}.{key}", each, tensors) for key, each in value.items()}}
    pairs = [
        [encode(f"a key of {name}", key, tensors), encode(f"{name}.{key}", each, tensors)]
        for key, each in value.items()
    ]
    kind = "Counter" if isinstance(value, Counter) else "dict"
    return {"pairs": pairs, "of": kind}


def decode(value: Any, tensors: Tensors) -> Any:
    """Return the value that `encode` was given."""
    if isinstance(value, list):
        return [decode(each, tensors) for each in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"tensor", "dtype"}:
        return torch.from_numpy(tensors[value["tensor"]].copy()).to(getattr(torch, value["dtype"]))
    if set(value) == {"numpy", "value"}:
        return np.dtype(value["numpy"]).type(value["value"])
    if set(value) == {"tuple"}:
        return tuple(decode(each, tensors) for each in value["tuple"])
    if set(value) == {"array", "shape"}:
        return tensors[value["array"]].reshape(value["shape"]).copy()
    if set(value) == {"pairs", "of"}:
        found = {decode(key, tensors): decode(each, tensors) for key, each in value["pairs"]}
        return Counter(found) if value["of"] == "Counter" else found
    if set(value) == {"dict"}:
        return {key: decode(each, tensors) for key, each in value["dict"].items()}
    return value  # as checkpoints of format 1 have it


# --- the optimizer -----------------------------------------------------------------------------------------


Order = dict[torch.Tensor, int]  # where in the model a parameter is

BY_MODEL = "of the model"
PER_PARAMETER = {"params", "param_names"}  # what a group has for each of its parameters


def in_order(inner: torch.optim.Optimizer, order: Order) -> list[list[int]]:
    """Return the places of each group's parameters, in the order of the model: a group made of a set has none."""
    found = []
    for group in inner.param_groups:
        where = [order.get(param, len(order)) for param in group["params"]]
        found.append(sorted(range(len(where)), key=where.__getitem__))
    return found


def numbered(whole: Facts, places: list[list[int]]) -> Facts:
    """Return an optimizer's state dict with its parameters numbered in these orders."""
    new: dict[int, int] = {}
    groups = []
    for group, order in zip(whole["param_groups"], places, strict=True):
        group = {**group, **{key: [group[key][place] for place in order] for key in PER_PARAMETER & set(group)}}
        groups.append({**group, "params": [new.setdefault(number, len(new)) for number in group["params"]]})
    return {"param_groups": groups, "state": {new.get(key, key): each for key, each in whole["state"].items()}}


def save_optimizer(inner: torch.optim.Optimizer, tensors: Tensors, order: Order) -> Facts:
    """Return its groups and states as JSON, and put tensors into `tensors`.

    Parameters are numbered in the model's order, in which all workers and every run have them.
    """
    whole = numbered(inner.state_dict(), in_order(inner, order))
    groups = [
        {key: encode(f"{key!r} of the optimizer's group {place}", value, tensors) for key, value in group.items()}
        for place, group in enumerate(whole["param_groups"])
    ]
    states = {}
    for index, values in whole["state"].items():
        if type(index) is not int:
            raise TypeError(
                f"the optimizer keeps a state under {index!r}, which is no parameter: save() cannot write it"
            )
        states[str(index)] = {
            name: encode(f"optimizer.{index}.{name}", each, tensors) for name, each in values.items()
        }
    return {"groups": groups, "state": states, "order": BY_MODEL}


def check_optimizer(inner: torch.optim.Optimizer, kept: Facts, where: str) -> None:
    """Refuse other groups than this optimizer's, before anything is changed."""
    there, here = ([len(group["params"]) for group in each] for each in (kept["groups"], inner.param_groups))
    if "state" not in kept or there != here:
        raise CheckpointError(
            f"{where} holds an optimizer whose groups are of {there} parameters, and this run's are of {here}"
        )


def load_optimizer(inner: torch.optim.Optimizer, tensors: Tensors, kept: Facts, order: Order) -> None:
    """Load what `save_optimizer` returned."""
    state: dict[int, Any] = {
        int(index): {name: decode(each, tensors) for name, each in values.items()}
        for index, values in kept["state"].items()
    }
    for name, tensor in tensors.items():  # checkpoints of format 1 do not mention them in `kept`
        kind, _, rest = name.partition(".")
        if kind == "optimizer":
            index, _, key = rest.partition(".")
            if key not in state[int(index)]:
                state[int(index)][key] = torch.from_numpy(tensor.copy())
    groups = [{key: decode(each, tensors) for key, each in group.items()} for group in kept["groups"]]
    if kept.get("order") == BY_MODEL:  # earlier versions kept each run's own
        for group, places in zip(groups, in_order(inner, order), strict=True):
            for key in PER_PARAMETER & set(group):
                by_place = dict(zip(places, group[key], strict=True))
                group[key] = [by_place[place] for place in range(len(places))]
    inner.load_state_dict({"state": state, "param_groups": groups})


# --- the model ---------------------------------------------------------------------------------------------


class UntrainedState:
    """What a model holds beside its trained parameters: buffers, frozen parameters, extra states of modules."""

    def __init__(self, model: nn.Module, layout: Layout) -> None:
        self.model, self.layout = model, layout

    def extra_states(self) -> dict[str, nn.Module]:
        """Return modules with a `get_extra_state`, by the name that their state has."""
        return {
            f"{name}._extra_state".removeprefix("."): module
            for name, module in self.model.named_modules()
            if type(module).get_extra_state is not nn.Module.get_extra_state
        }

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield tensors that are no trained parameter, with their names."""
        trained = {slot.param.data_ptr() for slot in self.layout.slots}
        extra = self.extra_states()
        for name, each in self.model.state_dict().items():
            if name not in extra and each.data_ptr() not in trained:
                yield plain(name), each

    def save(self, tensors: Tensors) -> Facts:
        """Put tensors into `tensors`, and return extra states as JSON."""
        for name, each in self.tensors():
            tensors[f"model.{name}"] = to_array(f"{name!r} of the model", each)
        return {
            plain(name): encode(f"{name!r} of the model", module.get_extra_state(), tensors)
            for name, module in self.extra_states().items()
        }

    def check(self, tensors: Tensors, kept: Facts, where: str) -> None:
        """Refuse what this model cannot load, before anything is changed."""
        for name, tensor in self.tensors():
            if (found := tensors.get(f"model.{name}")) is None or found.shape != tuple(tensor.shape):
                raise CheckpointError(
                    f"{where} does not hold {name!r} of the model, of shape {tuple(tensor.shape)}"
                )
        for name in self.extra_states():
            if plain(name) not in kept:
                raise CheckpointError(f"{where} does not hold {plain(name)!r} of the model")

    def load(self, tensors: Tensors, kept: Facts) -> None:
        """Load what `save` was given and returned."""
        with torch.no_grad():
            for name, tensor in self.tensors():
                tensor.copy_(torch.from_numpy(tensors[f"model.{name}"]))
        for name, module in self.extra_states().items():
            module.set_extra_state(decode(kept[plain(name)], tensors))
