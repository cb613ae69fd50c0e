"""Tensors among values of which workers take the mean."""

from __future__ import annotations

from typing import Any

import torch

from loosestep.runtime.agreement.values import Foreign


def foreign(x: Any) -> Foreign | None:
    """Return a tensor's numbers, and what makes a tensor of its dtype, on its device; None for anything else."""
    if not isinstance(x, torch.Tensor) or x.is_complex() or x.layout is not torch.strided:
        return None
    kind, device = x.dtype if x.is_floating_point() else torch.float64, x.device
    numbers = x.detach().double().cpu().numpy()
    return Foreign("tensor", tuple(x.shape), numbers, lambda mean: torch.from_numpy(mean).to(device, kind))
