"""Gradients with respect to inputs, which leave parameters, their gradients and hooks alone."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

Mode = Literal["eval", "keep"]


@contextmanager
def attacking(module: nn.Module, mode: Mode) -> Iterator[None]:
    """Let layers be in eval() mode inside the block, or keep theirs; running statistics stay as they are."""
    kept = [(each, each.training, getattr(each, "track_running_stats", None)) for each in module.modules()]
    try:
        for each, training, tracks in kept:
            if mode == "eval":
                each.training = False
            elif training and tracks:
                each.track_running_stats = False  # then the batch's statistics are kept nowhere
        yield
    finally:
        for each, training, tracks in kept:
            each.training = training
            if tracks is not None:
                each.track_running_stats = tracks


def input_gradient(module: nn.Module, inputs: Tensor, loss: Callable[[Tensor], Any], mode: Mode) -> Tensor:
    """Return the gradient of loss(inputs), times the number of rows so that half precision does not lose it.

    It works inside torch.no_grad() and torch.inference_mode(). `.grad` of parameters is neither read nor written,
    and no hook of a parameter runs, so that no strategy sends anything.
    """
    with torch.inference_mode(False), torch.enable_grad(), attacking(module, mode):
        leaf = inputs.detach().clone().requires_grad_()
        slope: Tensor
        (slope,) = torch.autograd.grad(loss(leaf) * len(leaf), leaf)
    return slope
