"""What a network holds beside its trained parameters: frozen ones, and buffers such as BatchNorm's statistics."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.optim.swa_utils import update_bn

from loosestep import buffers as flat
from loosestep.errors import one_of
from loosestep.requests import AllReduce, Broadcast

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor, nn

    from loosestep.adapters.torch.flat import Layout
    from loosestep.loop import Loop
    from loosestep.requests import Buffer, Request
    from loosestep.strategy import Strategy

KINDS = ("average", "rank0", "recompute", "own")
COLLECTIVE = ("average", "rank0")


def broadcast(layout: Layout, model: nn.Module) -> Iterator[Request]:
    """Everything becomes rank 0's, bit for bit: other types than float travel as bytes in float64 words."""
    yield Broadcast(layout.params)
    held = {slot.param for slot in layout.slots}
    others = [param for param in model.parameters() if param not in held] + list(model.buffers())
    words = to_words(others)
    if words.size:
        yield Broadcast(words)
        from_words(words, others)


def to_words(tensors: list[Tensor]) -> Buffer:
    """The bytes of all tensors, one after another."""
    raw = b"".join(as_bytes(tensor).numpy().tobytes() for tensor in tensors)
    words = flat.zeros(-(-len(raw) // 8), np.float64)
    words.view(np.uint8)[: len(raw)] = np.frombuffer(raw, np.uint8)
    return words


def from_words(words: Buffer, tensors: list[Tensor]) -> None:
    """Back to where they came from."""
    raw, start = torch.from_numpy(words.view(np.uint8)), 0
    with torch.no_grad():
        for tensor in tensors:
            stop = start + tensor.numel() * tensor.element_size()
            values = raw[start:stop].clone().view(tensor.dtype).reshape(tensor.shape)
            tensor.copy_(values)
            start = stop


def as_bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


class Statistics:
    """The floating-point buffers with which `consensus()` evaluates; see `parallel`."""

    def __init__(self, model: nn.Module, strategy: Strategy, kind: str | None) -> None:
        collective = all(part.consensus_is == "collective" for part, _ in strategy.stages)
        self.kind = kind or ("average" if collective else "own")
        one_of("buffers", self.kind, KINDS)
        if self.kind in COLLECTIVE and not collective:
            raise ValueError(
                f"buffers={self.kind!r} makes all workers meet, but one evaluates {strategy} alone: "
                "use 'own' or 'recompute'"
            )
        self.model = model
        self.values: Buffer = np.empty(0)  # those of the last meeting

    def tensors(self) -> list[Tensor]:
        return [tensor for tensor in self.model.buffers() if tensor.is_floating_point()]

    def meet(self) -> Iterator[Request]:
        """All workers agree on values, where the kind says so."""
        tensors = self.tensors() if self.kind in COLLECTIVE else []
        if not tensors:
            return
        self.values = flat.zeros(sum(tensor.numel() for tensor in tensors), np.float64)
        np.concatenate([tensor.double().reshape(-1).cpu().numpy() for tensor in tensors], out=self.values)
        yield AllReduce(self.values, op="mean") if self.kind == "average" else Broadcast(self.values)

    def place(self) -> None:
        """The agreed values go into the model."""
        if self.values.size:
            tensors = self.tensors()
            parts = torch.from_numpy(self.values).split([tensor.numel() for tensor in tensors])
            for tensor, part in zip(tensors, parts, strict=True):
                tensor.copy_(part.reshape(tensor.shape))

    @contextmanager
    def consensus(self, loop: Loop, layout: Layout, batches: Iterable[Any] | None) -> Iterator[nn.Module]:
        """Consensus parameters and these statistics, for a while."""
        if (batches is not None) != (self.kind == "recompute"):
            raise ValueError(f"consensus(batches) goes with buffers='recompute', and buffers is {self.kind!r}")
        layout.casts.bring_in()
        out = loop.consensus()
        if not loop.over:
            loop.joined.aside(self.meet())
        kept = [tensor.clone() for tensor in self.model.buffers()]
        try:
            with layout.holding(out):
                self.place()
                if batches is not None:
                    update_bn(batches, self.model, layout.slots[0].param.device)
                yield self.model
        finally:
            for tensor, value in zip(self.model.buffers(), kept, strict=True):
                tensor.copy_(value)
