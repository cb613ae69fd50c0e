"""Hooks of an open parallel() on torch's objects, removed when it closes; no parameter belongs to two of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import nn

    from loosestep.torch.flat import Layout, Slot


class Handle(Protocol):
    """What torch returns for a hook that it has registered."""

    def remove(self) -> None: ...


class UncopiedHook:
    """A forward pre-hook that a copy or a pickle of its module does not take along."""

    def __init__(self, function: Callable[[nn.Module, Any], None]) -> None:
        self.function = function

    def __call__(self, module: nn.Module, arguments: Any) -> None:
        self.function(module, arguments)

    def __reduce__(self) -> Any:
        """Return dict.get, a hook that does nothing: a program that loads it needs no loosestep."""
        return getattr, ({}, "get")


class Hooks:
    """The hooks of one parallel() until it closes, and the parameters that only it trains."""

    open: ClassVar[WeakSet[Hooks]] = WeakSet()  # in this process

    def __init__(self, layout: Layout, arrived: Callable[[Slot, nn.Parameter], None]) -> None:
        self.layout, self.params = layout, {slot.param for slot in layout.slots}
        self.handles: list[Handle] = [
            slot.param.register_post_accumulate_grad_hook(partial(arrived, slot)) for slot in layout.slots
        ]
        self.open.add(self)

    def add(self, handle: Handle) -> None:
        """Keep another hook, which is in no copy or file of the model."""
        self.handles.append(handle)

    def close(self) -> None:
        """Remove them all."""
        self.open.discard(self)
        for handle in self.handles:
            handle.remove()
        self.handles.clear()


def check_free(named: Iterable[tuple[str, nn.Parameter]]) -> None:
    """Refuse parameters that another open parallel() trains: each would count and move the other's gradients."""
    others = list(Hooks.open)
    for name, param in named:
        if any(param in hooks.params for hooks in others):
            raise RuntimeError(
                f"parameter {name!r} already belongs to another parallel() that is open: close() that one first, "
                "or leave its `with optimizer:`; what two models share only one of their optimizers may hold"
            )


def check_shown(models: Iterable[nn.Module], layouts: Sequence[Layout]) -> None:
    """Refuse to show models of which another open parallel() trains a part, unless they hold its consensus too."""
    others = [hooks for hooks in Hooks.open if hooks.layout not in layouts and not hooks.layout.away]
    for name, param in (named for model in models for named in model.named_parameters()):
        if any(param in hooks.params for hooks in others):
            raise RuntimeError(
                f"once() would show this worker's own {name!r} beside the consensus, for another parallel() "
                "trains it: give all optimizers of a model to one, as in parallel(model, [muon, adamw], "
                "strategy), or call once() inside `with` the other's consensus()"
            )
