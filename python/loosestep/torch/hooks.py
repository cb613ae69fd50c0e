"""What an open parallel() hangs on torch's objects: it goes with it when it closes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import nn


class Handle(Protocol):
    """What torch gives for a hook."""

    def remove(self) -> None: ...


class Unshared:
    """A forward pre-hook that a copy or a pickle of its module does not take along."""

    def __init__(self, function: Callable[[nn.Module, Any], None]) -> None:
        self.function = function

    def __call__(self, module: nn.Module, arguments: Any) -> None:
        self.function(module, arguments)

    def __reduce__(self) -> Any:
        """Stand for dict.get, which hands the arguments back: a program that loads it needs no loosestep."""
        return getattr, ({}, "get")


class Hooks:
    """Of one parallel(), from its beginning to close(): its handles, and the parameters that only it trains."""

    open: ClassVar[WeakSet[Hooks]] = WeakSet()  # all that are, in this process

    def __init__(self, params: Iterable[nn.Parameter], handles: Iterable[Handle]) -> None:
        self.params, self.handles = set(params), list(handles)
        self.open.add(self)

    def close(self) -> None:
        """Torch is as it was."""
        self.open.discard(self)
        for handle in self.handles:
            handle.remove()
        self.handles.clear()


def check_free(named: Iterable[tuple[str, nn.Parameter]]) -> None:
    """Refuse parameters that another open parallel() trains: each would count, and move, what is the other's."""
    others = list(Hooks.open)
    for name, param in named:
        if any(param in hooks.params for hooks in others):
            raise RuntimeError(
                f"parameter {name!r} already belongs to another parallel() that is open: close() that one first, "
                "or leave its `with optimizer:`; what two models share only one of their optimizers may hold"
            )
