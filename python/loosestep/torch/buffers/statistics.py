"""A model's buffers, such as BatchNorm's running statistics, and its frozen parameters, on all workers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.parameter import is_lazy
from torch.optim.swa_utils import update_bn

from loosestep.foundation import buffers as flat
from loosestep.foundation import checks
from loosestep.requests import AllReduce, Broadcast
from loosestep.torch.buffers import sync_batch_norm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import Tensor, nn

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker
    from loosestep.runtime.program import Data
    from loosestep.runtime.user_loop import Loop
    from loosestep.strategies.base import Strategy
    from loosestep.torch.flat import Layout

KINDS = ("average", "rank0", "sync", "recompute", "own")
COLLECTIVE = ("average", "rank0", "sync")


def broadcast(layout: Layout, model: nn.Module) -> Iterator[Request]:
    """Set everything to rank 0's values, bit for bit: other types than float travel as bytes in float64 words."""
    yield Broadcast(layout.params)
    others = [tensor for _, _, tensor in untrained(layout, model)]
    words = to_words(others)
    if words.size:
        yield Broadcast(words)
        from_words(words, others)


def untrained(layout: Layout, model: nn.Module) -> Iterator[tuple[str, str, Tensor]]:
    """Yield (kind, name, tensor) of frozen parameters and buffers."""
    held = {slot.param for slot in layout.slots}
    for name, param in model.named_parameters():
        if param not in held:
            yield "parameter", name, param
    for name, tensor in model.named_buffers():
        yield "buffer", name, tensor


def check(kind: str, name: str, tensor: Tensor) -> None:
    """Refuse a tensor whose values do not lie in memory, one by one."""
    if is_lazy(tensor):
        what = "has no shape yet: give the model a batch before parallel()"
    elif tensor.device.type == "meta":
        what = "is on the meta device, without values: make them before parallel()"
    elif tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested:
        form = "quantized" if tensor.is_quantized else "nested" if tensor.is_nested else tensor.layout
        what = (
            f"is {form}, and workers exchange dense tensors: keep it as a dense one, or as a plain attribute of "
            "its module, which stays each worker's own"
        )
    elif torch._debug_has_internal_overlap(in_full(tensor)):
        what = "has elements that share memory: say .clone()"
    else:
        return
    raise TypeError(f"{kind} {name!r} {what}")


def in_full(tensor: Tensor) -> Tensor:
    """Return the view of an expanded tensor that has each element of its memory once."""
    for dimension, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if size > 1 and stride == 0:
            tensor = tensor.narrow(dimension, 0, 1)
    return tensor


def write(tensor: Tensor, values: Tensor) -> None:
    """Set a tensor, which may be an expanded one, to values of its shape."""
    full = in_full(tensor)
    full.copy_(values.as_strided(full.shape, values.stride()))


def to_words(tensors: list[Tensor]) -> Buffer:
    """Return the bytes of all tensors, one after another."""
    raw = b"".join(as_bytes(tensor).numpy().tobytes() for tensor in tensors)
    words = flat.zeros(-(-len(raw) // 8), np.float64)
    words.view(np.uint8)[: len(raw)] = np.frombuffer(raw, np.uint8)
    return words


def from_words(words: Buffer, tensors: list[Tensor]) -> None:
    """Set the tensors to the values that `to_words` was given."""
    raw, start = torch.from_numpy(words.view(np.uint8)), 0
    with torch.no_grad():
        for tensor in tensors:
            stop = start + tensor.numel() * tensor.element_size()
            write(tensor, raw[start:stop].clone().view(tensor.dtype).reshape(tensor.shape))
            start = stop


def as_bytes(tensor: Tensor) -> Tensor:
    """Return the bytes of its elements, in order; a copy, for a view of bytes refuses odd strides."""
    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    return plain.clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8)


class Statistics:
    """The floating-point buffers with which `consensus()` evaluates; see `parallel`."""

    def __init__(self, model: nn.Module, strategy: Strategy, kind: str | None, batch_norm: str) -> None:
        collective = all(part.consensus_is == "collective" for part, _ in strategy.stages)
        self.kind: str = kind or ("average" if collective else "own")
        checks.one_of("buffers", self.kind, KINDS)
        if self.kind in COLLECTIVE and not collective:
            raise ValueError(
                f"buffers={self.kind!r} makes all workers meet, but one evaluates {strategy} alone: "
                "use 'own' or 'recompute'"
            )
        if self.kind == "sync" and not all(part.synchronous for part, _ in strategy.stages):
            raise ValueError(f"buffers='sync' makes all workers meet when a round ends, which {strategy} does not")
        checks.one_of("batch_norm", batch_norm, sync_batch_norm.KINDS)
        self.batch_norm = batch_norm
        self.synchronized = sync_batch_norm.synchronized(model, batch_norm, strategy)
        self.model = model
        self.values: Buffer = np.empty(0)  # those of the last exchange

    def facts(self, layout: Layout) -> dict[str, str]:
        """Return what workers must have alike. Raises TypeError for a tensor that cannot be sent."""
        found = {"buffers": self.kind, "batch_norm": self.batch_norm}
        for kind, name, tensor in untrained(layout, self.model):
            check(kind, name, tensor)
            found[f"{kind} {name!r}"] = f"{tuple(tensor.shape)} {tensor.dtype}"
        return found

    def tensors(self) -> list[Tensor]:
        """Return the model's floating-point buffers."""
        return [tensor for tensor in self.model.buffers() if tensor.is_floating_point()]

    def exchange(self, weight: float = 1.0) -> Iterator[Request]:
        """Average the values over workers, or broadcast rank 0's, where the kind says so."""
        tensors = self.tensors() if self.kind in COLLECTIVE else []
        if not tensors:
            return
        self.values = flat.zeros(sum(tensor.numel() for tensor in tensors), np.float64)
        np.concatenate([tensor.double().reshape(-1).cpu().numpy() for tensor in tensors], out=self.values)
        yield Broadcast(self.values) if self.kind == "rank0" else AllReduce(self.values, op="mean", weight=weight)

    def after_round(self, worker: Worker, feed: Data) -> Callable[[], Iterator[Request]] | None:
        """Return what makes the buffers of all workers alike when a round ends: their mean, or None."""

        def average() -> Iterator[Request]:
            yield from self.exchange(1.0 if worker.samples or not feed.ended() else 0.0)  # without data: left out
            self.place()

        return average if self.kind == "sync" and worker.size > 1 else None

    def place(self) -> None:
        """Set the model's buffers to the values of the last exchange."""
        if self.values.size:
            tensors = self.tensors()
            parts = torch.from_numpy(self.values).split([tensor.numel() for tensor in tensors])
            for tensor, part in zip(tensors, parts, strict=True):
                write(tensor, part.reshape(tensor.shape))

    @contextmanager
    def consensus(self, loop: Loop, layout: Layout, batches: Iterable[Any] | None) -> Iterator[nn.Module]:
        """Let the model hold the consensus parameters and these statistics inside the block."""
        if (batches is not None) != (self.kind == "recompute"):
            raise ValueError(f"consensus(batches) goes with buffers='recompute', and buffers is {self.kind!r}")
        with layout.flat():
            out = loop.consensus()
        if not loop.over:
            loop.connection.run_unmetered(self.exchange())
        kept = [tensor.clone() for tensor in self.model.buffers()]
        try:
            with layout.holding(out):
                self.place()
                if batches is not None:
                    update_bn(batches, self.model, layout.slots[0].param.device)
                yield self.model
        finally:
            for tensor, value in zip(self.model.buffers(), kept, strict=True):
                write(tensor, value)
