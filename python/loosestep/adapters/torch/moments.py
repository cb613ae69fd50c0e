"""The buffers of a torch optimizer, for strategies that average or reset them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from loosestep.adapters.torch.flat import in_memory_order
from loosestep.adapters.torch.resident import buffer_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.adapters.torch.flat import Layout
    from loosestep.requests import Buffer


class Moments:
    """What the inner optimizer keeps for each element of a parameter, as it is when it is asked for.

    Torch makes it in the first step of a parameter: all workers must have made one.
    """

    def __init__(self, layout: Layout, inner: torch.optim.Optimizer) -> None:
        self.layout, self.inner = layout, inner

    def __iter__(self) -> Iterator[Buffer]:
        for slot in self.layout.slots:
            for name, value in sorted(self.inner.state.get(slot.param, {}).items()):
                if isinstance(value, torch.Tensor) and value.shape == slot.param.shape:
                    yield self.as_buffer(slot.name, name, value)

    def as_buffer(self, of: str, name: str, value: torch.Tensor) -> Buffer:
        """A view of it."""
        if value.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"{name} of {of!r} is {value.dtype}: only float32 and float64 are averaged or reset")
        return buffer_of(in_memory_order(value))
