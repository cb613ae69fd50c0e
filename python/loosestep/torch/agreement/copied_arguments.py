"""Copies of a worker's own parameters among arguments that are meant to show the consensus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import torch

from loosestep.torch.flat import plain
from loosestep.torch.within.dtensors import local_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from loosestep.torch.flat import Layout, Slot


Answer = TypeVar("Answer")


class Copies:
    """The tensors in dicts of a call's arguments that equal a parameter of their name, and are not its memory."""

    def __init__(self, layouts: Sequence[Layout], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        self.arguments, self.keywords = arguments, keywords
        self.found = [
            (name, tensor, slot)
            for each in arguments_with_names((*arguments, *keywords.values()))
            for name, tensor in held(each)
            for slot in named(layouts, name)
            if is_copy(tensor, slot)
        ]

    def checked(self, action: Callable[..., Answer]) -> Answer:
        """Return `action(*arguments, **keywords)`, when the model holds the consensus.

        Raises ValueError where a copy shows something else.
        """
        for name, tensor, slot in self.found:
            if not same_values(tensor, slot.param):
                raise ValueError(
                    f"the arguments hold a copy of {name!r} that was made before the consensus, of this worker's "
                    "own parameters: pass a function, as in optimizer.once(lambda: save(model.state_dict()))"
                )
        return action(*self.arguments, **self.keywords)


def arguments_with_names(arguments: tuple[Any, ...]) -> Iterator[dict[str, Any]]:
    """Yield every dict among the arguments, and one level deep inside them."""
    for each in arguments:
        if isinstance(each, dict):
            yield from (inner for inner in (each, *each.values()) if isinstance(inner, dict) and is_named(inner))


def held(values: dict[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield names and tensors, of a tensor that is divided this process's part."""
    yield from ((name, local_of(each)) for name, each in values.items() if isinstance(each, torch.Tensor))


def named(layouts: Sequence[Layout], name: Any) -> Iterator[Slot]:
    """Yield the parameters of that name: of several models some may share one."""
    yield from (slot for layout in layouts for slot in layout.slots if plain(slot.name) == plain(name))


def is_named(values: dict[Any, Any]) -> bool:
    """Return whether a dict holds tensors by name."""
    return any(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in values.items())


def is_copy(tensor: torch.Tensor, slot: Slot) -> bool:
    """Return whether a tensor is a copy of a parameter as it is now."""
    if tensor.shape != slot.param.shape or tensor.is_complex():
        return False
    shared = tensor.untyped_storage().data_ptr() == slot.param.untyped_storage().data_ptr()
    return not shared and same_values(tensor, slot.param)


def same_values(tensor: torch.Tensor, param: torch.Tensor) -> bool:
    """Return whether a tensor holds a parameter's values, as its own dtype has them."""
    return bool(torch.equal(tensor.detach(), param.detach().to(tensor.device, tensor.dtype)))
