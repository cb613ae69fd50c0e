"""The hyperparameters in an optimizer's groups (rates, momentum, decay), which all workers must have alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from loosestep.transports.matching import check_facts, stable_repr

if TYPE_CHECKING:
    from loosestep.runtime.agreement.meeting import Agreement
    from loosestep.torch.data.dealt import Dealt
    from loosestep.torch.data.samplers import Shard, SharedOut
    from loosestep.torch.flat import Layout

NO_OPTIONS = ("params", "param_names")  # of what a group holds


def options(inner: torch.optim.Optimizer) -> dict[str, str]:
    """Return every option of every group, as text: what workers compare.

    >>> net = torch.nn.Linear(2, 1)
    >>> options(torch.optim.SGD(net.parameters(), lr=torch.tensor(0.5)))["group 0's lr"]
    '0.5'
    """
    return {
        f"group {number}'s {name}": comparable(value)
        for number, group in enumerate(inner.param_groups)
        for name, value in sorted(group.items())
        if name not in NO_OPTIONS
    }


def comparable(value: Any) -> str:
    """Return a value as the text that is compared: a tensor of one number as the number."""
    if isinstance(value, torch.Tensor):
        return repr(value.item()) if value.numel() == 1 else f"{tuple(value.shape)} {value.dtype}"
    return stable_repr(value.item() if isinstance(value, np.generic) else value)


def groups(inner: torch.optim.Optimizer, layout: Layout) -> dict[str, str]:
    """Return which group each parameter is of, where there are several."""
    if len(inner.param_groups) < 2:
        return {}
    number = {param: str(place) for place, group in enumerate(inner.param_groups) for param in group["params"]}
    return {f"parameter {slot.name!r} in group": number[slot.param] for slot in layout.slots}


class Hyperparameters:
    """Checks whether workers' options have drifted apart since they began alike."""

    def __init__(self, agreement: Agreement, inner: torch.optim.Optimizer) -> None:
        self.agreement, self.inner = agreement, inner
        self.orders: list[Shard | SharedOut | Dealt] = []  # of samplers, which must be alike too
        self.mine = options(inner)  # when this worker came to compare them
        self.of_all = agreement.loop.connection.session.all_gather_object("options", lambda: self.mine)

    def check(self, what: str) -> None:
        """Raise Mismatch, with the first difference, on all workers; all call it at one step, in `what`."""
        self.mine = options(self.inner)
        for number, each in enumerate(self.orders if self.agreement.loop.program.stays else ()):
            self.mine[f"the order of sampler {number}"] = each.source
        if not self.agreement.meet(what, repr(self.mine)):
            found = self.of_all()
            self.agreement.meet(what)  # all have read them
            check_facts(found)
