"""Whether the model and the optimizer still have the parameters that they had at parallel()."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loosestep.torch.flat import plain

if TYPE_CHECKING:
    import torch
    from torch import nn

    from loosestep.torch.flat import Layout

ANEW = "close() this parallel() and call it again"


class TrackedParameters:
    """Checks, before each step, that the optimizer still trains the same parameters and the model still has them.

    A parameter that is frozen after parallel() (requires_grad_(False)) rests, and may be trained again later. One
    that begins to be trained later has no place in what workers send: each would train it apart.
    """

    def __init__(self, model: nn.Module, layout: Layout, inner: torch.optim.Optimizer) -> None:
        self.model, self.layout, self.inner = model, layout, inner
        self.laid_out = {slot.param for slot in layout.slots}
        self.held = {param for group in inner.param_groups for param in group["params"]}
        self.places = self.find_places()

    def check(self) -> None:
        """Raise RuntimeError, which names the parameter and says what to do, unless all is as it was.

        The optimizer must hold these parameters and no other that is trained, the model must have them under their
        names, and their memory must be where it was: nothing here would move another one.
        """
        laid_out, found = self.laid_out, 0
        for group in self.inner.param_groups:
            for param in group["params"]:
                if param in laid_out:
                    found += 1
                elif param.requires_grad:
                    raise RuntimeError(self.unknown(param))
        if found < len(laid_out):
            raise RuntimeError(f"the optimizer no longer holds parameter {self.missing()!r}: {ANEW}")
        for registry, name, there in self.places:
            if registry.get(name) is not there:
                self.check_replaced()
                break
        for slot in self.layout.slots:
            if slot.param.data_ptr() != slot.address:
                raise RuntimeError(
                    f"the memory of parameter {slot.name!r} was replaced after parallel(): convert or move the "
                    "model before; after close() another parallel() may have it"
                )

    def unknown(self, param: nn.Parameter) -> str:
        """Return the message about a parameter that each worker would train by itself."""
        names = [name for name, each in self.model.named_parameters() if each is param]
        what = f"parameter {names[0]!r}" if names else f"a parameter of shape {tuple(param.shape)}"
        if param in self.held:
            return (
                f"{what} requires a gradient, which it did not when parallel() was called, so that "
                "workers would train it apart: let it require one then and freeze it afterwards by "
                f"requires_grad_(False), or {ANEW}"
            )
        return (
            f"{what} came into the optimizer after parallel(), so that workers would train it apart: "
            f"add it before, or {ANEW}"
        )

    def missing(self) -> str:
        """Return the name of a parameter that the optimizer has lost."""
        held = {param for group in self.inner.param_groups for param in group["params"]}
        return next(slot.name for slot in self.layout.slots if slot.param not in held)

    # --- the model ---------------------------------------------------------------------------------------

    def find_places(self) -> list[tuple[dict[str, Any], str, Any]]:
        """Return where modules hold each other, and what is trained: (registry, name, what is there)."""
        places: list[tuple[dict[str, Any], str, Any]] = []
        for module in self.model.modules():
            places += [(module._modules, name, child) for name, child in module._modules.items()]
            own = module._parameters
            places += [(own, name, param) for name, param in own.items() if param in self.laid_out]
        return places

    def check_replaced(self) -> None:
        """Refuse a changed model where another parameter has the name of a trained one."""
        now = {plain(name): param for name, param in self.model.named_parameters(remove_duplicate=False)}
        there = set(now.values())
        for slot in self.layout.slots:
            if slot.param not in there and slot.name in now:
                raise RuntimeError(
                    f"parameter {slot.name!r} of the model was replaced after parallel(), and nothing would train "
                    f"the new one: load with load_state_dict(assign=False), change the model before, or {ANEW}"
                )
        self.places = self.find_places()
