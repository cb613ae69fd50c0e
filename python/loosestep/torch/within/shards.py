"""What one process holds of a model and of its optimizer, as a plain model and a plain optimizer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from loosestep.torch.within.dtensors import local_of, parts_of, whole_of


class Shards(nn.Module):
    """Plain parameters with the values that this process holds of a model's, under the same names.

    What the model has besides, such as buffers, is an extra state of this module.
    """

    def __init__(self, model: nn.Module, inner: torch.optim.Optimizer) -> None:
        super().__init__()
        names = {param: name for name, param in model.named_parameters()}
        held = [param for group in inner.param_groups for param in group["params"]]
        self.whole = [model]  # in a list, so that it is no part of this module
        self.names = names
        self.pairs = [
            (param, nn.Parameter(local_of(param).clone(), requires_grad=param.requires_grad)) for param in held
        ]
        self.of = dict(self.pairs)
        for param, shard in self.pairs:
            place: nn.Module = self
            *path, last = names[param].split(".")
            for part in path:
                place = place._modules.setdefault(part, nn.Module())
            place._parameters[last] = shard
            if last == "weight" and getattr(model.get_submodule(".".join(path)), "sparse", None) is True:
                place.sparse = True  # so that its gradients are averaged as rows

    def check(self, inner: torch.optim.Optimizer) -> None:
        """Raise RuntimeError where the optimizer has got another parameter; let those that were frozen rest."""
        for group in inner.param_groups:
            for param in group["params"]:
                if param not in self.of and param.requires_grad:
                    what = f"{self.names[param]!r}" if param in self.names else f"of shape {tuple(param.shape)}"
                    raise RuntimeError(
                        f"the parameter {what} came into the optimizer after parallel(), so that workers would "
                        "train it apart: add it before, or close() this parallel() and call it again"
                    )
        for param, shard in self.pairs:
            shard.requires_grad_(param.requires_grad)

    def to_model(self) -> None:
        """Write the values into the model."""
        for param, shard in self.pairs:
            local_of(param).copy_(shard.detach())

    def from_model(self) -> None:
        """Read the values from the model."""
        for param, shard in self.pairs:
            shard.detach().copy_(local_of(param))

    def take_gradients(self) -> None:
        """Run a backward pass that leaves the model's gradients in the shards."""
        found = [
            (shard, local_of(param.grad))
            for param, shard in self.pairs
            if param.grad is not None and shard.requires_grad
        ]
        torch.autograd.backward([shard for shard, _ in found], [gradient for _, gradient in found])

    def give_gradients(self) -> None:
        """Write the shards' gradients, which a strategy may have averaged, into the model's."""
        for param, shard in self.pairs:
            if shard.grad is None or not param.requires_grad:
                continue
            if shard.grad.layout is not torch.strided:  # a detached view would be written instead of the gradient
                param.grad = shard.grad
            elif param.grad is not None:
                local_of(param.grad).copy_(shard.grad)
            elif not hasattr(param, "to_local"):  # this group has not used it, and others have
                param.grad = shard.grad.clone()

    # --- what the model has besides ----------------------------------------------------------------------

    def rest(self) -> dict[str, Any]:
        """Return what is in the model's state dict and is no parameter of the optimizer."""
        (model,) = self.whole
        named = model.named_parameters(remove_duplicate=False)
        mine = {name for name, param in named if param in self.of}
        return {name: value for name, value in model.state_dict().items() if name not in mine}

    def get_extra_state(self) -> dict[str, Any]:
        return {name: local_of(each) if tensor(each) else each for name, each in self.rest().items()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        (model,), now = self.whole, self.rest()
        for name, value in state.items():
            if tensor(value):
                local_of(now[name]).copy_(value)
            else:
                model.load_state_dict({name: value}, strict=False)


def tensor(value: object) -> bool:
    """Return whether a value is a tensor."""
    return isinstance(value, torch.Tensor)


class Delegate(torch.optim.Optimizer):
    """Steps shards by the optimizer of the model, whose state is its own."""

    def __init__(self, shards: Shards, inner: torch.optim.Optimizer) -> None:
        self.shards, self.inner = shards, inner
        of, groups = shards.of, inner.param_groups
        super().__init__([{**group, "params": [of[param] for param in group["params"]]} for group in groups], {})

    def follow(self) -> None:
        """Take over rates and other options, as a scheduler has set them."""
        for mine, theirs in zip(self.param_groups, self.inner.param_groups, strict=True):
            mine.update({name: value for name, value in theirs.items() if name != "params"})

    def step(self, closure: Any = None) -> None:
        self.shards.give_gradients()
        self.shards.to_model()
        self.inner.step()
        self.shards.from_model()

    def state_dict(self) -> dict[str, Any]:
        """Return the state dict of the model's optimizer, with this process's parts of what is divided."""
        found: dict[str, Any] = parts_of(self.inner.state_dict())
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned, into the model's optimizer."""
        params = [param for param, _ in self.shards.pairs]
        state = {index: whole_of(each, params[index]) for index, each in state_dict["state"].items()}
        self.inner.load_state_dict({**state_dict, "state": state})
        self.follow()


class ContentsOfProcess:
    """What a checkpoint keeps of a process of a worker: its shards; what is compared is the whole model's.

    shards: the contents of those. groups: how processes are divided among workers, in words.
    """

    def __init__(self, shards: Any, params: dict[Any, str], groups: str) -> None:
        self.shards, self.params, self.groups = shards, params, groups
        self.check_unchanged, self.save = shards.check_unchanged, shards.save
        self.check, self.load = shards.check, shards.load

    def kind(self) -> str:
        """Return the optimizer's name, and how processes are divided: another division cannot go on."""
        return f"{self.shards.kind()} of {self.groups}"

    def shapes(self) -> list[tuple[str, tuple[int, ...], str]]:
        """Return (name, shape, dtype) of every parameter, whole."""
        return [(name, tuple(param.shape), str(param.dtype)) for param, name in self.params.items()]

    def count(self) -> int:
        """Return how many numbers the parameters are."""
        return sum(param.numel() for param in self.params)
