"""Copies of gradients between where torch makes them and the flat one; of sparse ones, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from loosestep.torch import device_buffer

if TYPE_CHECKING:
    from loosestep.requests.row_gradients import RowTensor
    from loosestep.torch.flat import Slot


def copy_gradient(slot: Slot) -> None:
    """Copy a gradient that torch made to its place in the flat one, and let torch see that place.

    A cast parameter's gradient stays where torch made it, and so does a sparse one: `give_back` is for these. A
    parameter without one has gradient zero, which torch sees too unless the parameter is frozen.
    """
    found = slot.param.grad
    if found is slot.grad:
        return
    if found is not None:
        slot.sparse = found.layout is not torch.strided
    if slot.rows is not None:
        copy_rows(slot.rows, slot.grad, found)
    elif found is None:
        slot.grad.zero_()
    else:
        slot.grad.copy_(found.detach().to_dense() if slot.sparse else found.detach())
    if found is None and not slot.param.requires_grad:  # it was frozen: torch leaves it out of its step
        return
    if slot.sparse:
        return
    if slot.cast is None:
        slot.param.grad = slot.grad
    elif found is None:
        slot.param.grad = torch.zeros_like(slot.param)


def copy_rows(rows: RowTensor, place: Tensor, found: Tensor | None) -> None:
    """Copy a gradient of few rows to its place, and touch no other rows where those are known to be zero.

    What comes twice is added up in the order in which it comes, as torch does for a dense gradient on the CPU.
    """
    if rows.filled is None:
        place.zero_()
    else:
        place[index(rows.filled, place)] = 0
    rows.filled = None  # whoever asked for the gradient may write any row
    if found is None:
        rows.touched = np.empty(0, np.intp)
    elif found.layout is torch.sparse_coo and found.sparse_dim() == 1:
        found = found.detach()
        if device_buffer.is_cuda(place):
            found = found.coalesce()
            place[found.indices()[0]] = found.values().to(place.dtype)
            rows.touched = found.indices()[0].cpu().numpy()
        else:
            values = found._values().to(place.dtype).numpy()
            rows.add(place.numpy(), found._indices()[0].numpy(), values)
    else:
        place.copy_(found.detach() if found.layout is torch.strided else found.detach().to_dense())
        rows.touched = None


def clear(slot: Slot) -> None:
    """Let the place of a gradient hold nothing of this worker."""
    slot.grad.zero_()
    if slot.rows is not None:
        slot.rows.touched = np.empty(0, np.intp)


def give_back(slot: Slot) -> None:
    """Copy what became of a gradient to where the user and the optimizer look, if they look elsewhere.

    Of a sparse one those rows are given that are not zero: those of any worker, where gradients were averaged.
    """
    if slot.sparse and slot.param.requires_grad:
        rows = nonzero_rows(slot)
        values, shape = slot.grad[rows].to(slot.param.dtype), slot.param.shape
        slot.param.grad = torch.sparse_coo_tensor(
            rows[None], values, shape, check_invariants=False, is_coalesced=True
        )
    elif slot.param.grad is not None:
        slot.param.grad.copy_(slot.grad)


def nonzero_rows(slot: Slot) -> Tensor:
    """Return the rows of a gradient that are not zero, looking at those alone that may be."""
    if slot.rows is None or slot.rows.filled is None:
        return slot.grad.flatten(1).any(1).nonzero()[:, 0]
    among = index(slot.rows.filled, slot.grad)
    return among[slot.grad[among].flatten(1).any(1)]


def index(rows: Any, like: Tensor) -> Tensor:
    """Return numbers of rows as a tensor beside another."""
    return torch.from_numpy(rows).to(like.device)
