"""A torch optimizer's state in memory that all workers of a host map, as they do the parameters.

torch's own kernels update it by plain loads and stores. Races lie outside the language's memory model, as those of
torch.multiprocessing do: of two updates of one element at once, one may be lost; so with step counters.
"""

from __future__ import annotations

from collections import UserDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from loosestep.foundation import buffers
from loosestep.foundation.buffers import is_on_device
from loosestep.requests import AllReduce
from loosestep.torch.flat import is_dense, strides

if TYPE_CHECKING:
    from loosestep.requests import Buffer
    from loosestep.runtime.user_loop import Connection
    from loosestep.strategies.base import Strategy
    from loosestep.torch.flat import Layout, Slot
    from loosestep.transports.base import Session


def check_sharing(strategy: Strategy) -> None:
    """Refuse a promise that torch's optimizers cannot keep."""
    if strategy.shared_buffers and set(strategy.shared_buffers) != {"params", "moments"}:
        what = " and ".join(strategy.shared_buffers)
        raise TypeError(f"{strategy} keeps only {what} in common, and a loop of your own shares moments too")
    if strategy.shared_buffers and getattr(strategy, "adds", "racy") != "racy":
        raise ValueError(
            f"{strategy} promises that no update is lost, and torch's optimizers write shared memory without "
            f"atomics: say {type(strategy).__name__}(adds='racy'), or use loosestep.run with loosestep.torch.Model"
        )


def check_hosted(strategy: Strategy, session: Session) -> None:
    """Refuse workers that cannot share memory."""
    if not session.hosted:
        raise ValueError(
            f"{strategy} needs workers that share memory, and these are on {len(session.hosts)} hosts"
        )


def check_in_memory(strategy: Strategy, layout: Layout) -> None:
    """Refuse parameters that are not in main memory."""
    if is_on_device(layout.params):
        device = layout.slots[0].param.device
        raise TypeError(f"{strategy} shares parameters in main memory, and these are on {device}")


def check_one_dtype(strategy: Strategy, layout: Layout) -> None:
    """Refuse parameters of several dtypes, and of one that the flat buffer lacks."""
    if layout.has_casts:
        raise TypeError(f"{strategy} shares parameters in place, so all must be of one dtype, float32 or float64")


class RecordingDict(UserDict[str, Any]):
    """One parameter's state, with a record of what every entry was when it was first set."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.first: dict[str, Any] = {}
        super().__init__(values)

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self.first:
            self.first[name] = value.clone() if isinstance(value, Tensor) else value
        super().__setitem__(name, value)


@dataclass(eq=False, slots=True)
class Entry:
    """One tensor of an optimizer's state."""

    slot: Slot
    name: str
    value: Tensor


class SharedState:
    """An optimizer's state in memory that all workers map.

    torch makes state in the first step. So the optimizer makes one with gradients of zero and no weight decay,
    which is undone; all begin at the values with which entries were first set. Numbers that are no tensors, such
    as the step counter of SparseAdam, become float64 tensors, in which powers are as exact as Python's.

    Raises TypeError for state that cannot be shared, ValueError for a first step unlike all others (dampening).
    """

    def __init__(self, inner: torch.optim.Optimizer, layout: Layout, sparse: set[nn.Parameter]) -> None:
        if any(group.get("dampening") for group in inner.param_groups):
            raise ValueError("dampening makes the first step unlike all others, and workers share one: say 0")
        self.inner, self.layout, self.slots = inner, layout, layout.slots
        initial = initial_state(inner, layout, sparse)
        self.entries = [
            Entry(slot, name, as_tensor(value, slot, name))
            for slot, first in zip(self.slots, initial, strict=True)
            for name, value in first.items()
            if value is not None
        ]
        self.place()

    @property
    def nbytes(self) -> int:
        """The bytes of all entries, each up to the next boundary."""
        return sum(padded(entry.value) for entry in self.entries)

    def facts(self) -> dict[str, str]:
        """Return what every worker must have alike."""
        each = {f"{e.name} {tuple(e.value.shape)} {e.value.dtype}" for e in self.entries}
        return {"optimizer state": f"{len(self.entries)} tensors: {', '.join(sorted(each)) or 'none'}"}

    def share_all(self, connection: Connection) -> None:
        """Move parameters and state to memory that all workers map."""
        session, layout = connection.session, self.layout
        layout.move(session.in_common("params", layout.params))
        connection.worker.params, layout.shared = layout.params, True
        self.share(session)
        connection.run_unmetered([AllReduce(np.zeros(1))])  # nobody begins before rank 0's values are there

    def share(self, session: Session) -> None:
        """Move the state to memory of all workers, with the first worker's values."""
        if not self.entries:
            return
        common = session.in_common("optimizer", buffers.zeros(self.nbytes // 8, np.float64))
        if 0 in session.ranks:
            for entry, view in zip(self.entries, self.views(common), strict=True):
                view.copy_(entry.value)
        for entry, view in zip(self.entries, self.views(common), strict=True):
            entry.value = view
        self.place()

    def views(self, words: Buffer) -> list[Tensor]:
        """Return tensors like those of the entries, one after another in this memory."""
        raw, found, start = torch.from_numpy(words.view(np.uint8)), [], 0
        for value in (entry.value for entry in self.entries):
            flat = raw[start : start + value.numel() * value.element_size()].view(value.dtype)
            found.append(flat.as_strided(value.shape, strides(value)))
            start += padded(value)
        return found

    def place(self) -> None:
        """Let the optimizer's state be these tensors, and no others."""
        for slot in self.slots:
            self.inner.state.pop(slot.param, None)
        for entry in self.entries:
            self.inner.state[entry.slot.param][entry.name] = entry.value

    def take_over(self) -> None:
        """Copy a state that the optimizer has loaded into these tensors, and let its state be them again."""
        for entry in self.entries:
            found = self.inner.state[entry.slot.param].get(entry.name)
            if found is None:
                raise ValueError(f"the state dict holds no {entry.name!r} of parameter {entry.slot.name!r}")
            entry.value.copy_(torch.as_tensor(found))
        self.place()

    def check(self) -> None:
        """Raise RuntimeError for state that the optimizer made later or replaced: it would not be shared."""
        state = self.inner.state
        for entry in self.entries:
            if state[entry.slot.param].get(entry.name) is not entry.value:
                raise RuntimeError(
                    f"the optimizer replaced {entry.name!r} of {entry.slot.name!r}: it is not shared"
                )
        if sum(map(len, state.values())) != len(self.entries):
            raise RuntimeError("the optimizer made state that its first step had not: it is not shared")


def padded(tensor: Tensor) -> int:
    """Return the bytes that a tensor takes, up to the next boundary."""
    nbytes: int = tensor.numel() * tensor.element_size()
    return -(-nbytes // buffers.ALIGNMENT) * buffers.ALIGNMENT


def initial_state(inner: torch.optim.Optimizer, layout: Layout, sparse: set[nn.Parameter]) -> list[dict[str, Any]]:
    """Return, for each parameter, the state with which the optimizer begins, by name."""
    slots, params, grads = layout.slots, layout.params.copy(), [slot.param.grad for slot in layout.slots]
    before, decays = repr(settings(inner)), [group.get("weight_decay") for group in inner.param_groups]
    recorded = [RecordingDict(inner.state.get(slot.param, {})) for slot in slots]
    try:
        decay_by(inner, [None if decay is None else 0.0 for decay in decays])
        for slot, record in zip(slots, recorded, strict=True):
            inner.state[slot.param] = record
            slot.param.grad = zero_gradient(slot.param, sparse=slot.param in sparse)
        inner.step()
    finally:
        layout.params[:] = params
        decay_by(inner, decays)
        for slot, grad in zip(slots, grads, strict=True):
            slot.param.grad = grad
    if repr(settings(inner)) != before:
        raise TypeError(f"{type(inner).__name__} counts in its param_groups, which workers cannot share")
    return [record.first for record in recorded]


def decay_by(inner: torch.optim.Optimizer, decays: list[float | None]) -> None:
    """Set every group's weight decay; None where it has none."""
    for group, decay in zip(inner.param_groups, decays, strict=True):
        if decay is not None:
            group["weight_decay"] = decay


def settings(inner: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Return the options of every group."""
    return [{name: value for name, value in group.items() if name != "params"} for group in inner.param_groups]


def zero_gradient(param: nn.Parameter, *, sparse: bool) -> Tensor:
    """Return a gradient of zero; a sparse one has one row."""
    if not sparse:
        return torch.zeros_like(param)
    row = torch.zeros(1, *param.shape[1:], dtype=param.dtype)
    return torch.sparse_coo_tensor(torch.zeros(1, 1, dtype=torch.long), row, param.shape, check_invariants=True)


def sparse_of(model: nn.Module) -> set[nn.Parameter]:
    """Return the weights whose gradients are sparse: those of embeddings that say so."""
    return {module.weight for module in model.modules() if getattr(module, "sparse", None) is True}


def as_tensor(value: Any, slot: Slot, name: str) -> Tensor:
    """Return an entry of an optimizer's state as a tensor that can be shared."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return torch.tensor(float(value), dtype=torch.float64)
    if isinstance(value, Tensor) and value.layout is torch.strided and value.device.type == "cpu":
        return value if is_dense(value) else value.contiguous()
    kind = f"{value.layout} on {value.device}" if isinstance(value, Tensor) else type(value).__name__
    raise TypeError(f"the optimizer keeps {name!r} of {slot.name!r} as {kind}, which workers cannot share")
