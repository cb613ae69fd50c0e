"""`Model`: a torch module for `run`, whose loop the library owns."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from loosestep.foundation import buffers, checks
from loosestep.foundation.buffers import here
from loosestep.torch.flat import Layout
from loosestep.torch.gradients.copies import copy_gradient
from loosestep.torch.gradients.inputs import input_gradient

if TYPE_CHECKING:
    from collections.abc import Callable

    from loosestep.requests import Buffer


class Replica:
    """One module whose parameters are views of a flat buffer."""

    def __init__(self, factory: Callable[[], nn.Module]) -> None:
        self.module = factory()
        if not isinstance(self.module, nn.Module):
            raise TypeError(f"factory must return a torch.nn.Module, got {self.module!r}")
        named = [(name, param) for name, param in self.module.named_parameters() if param.requires_grad]
        self.layout = Layout(named)
        self.grad = buffers.like(self.layout.params)
        self.layout.attach(self.grad)

    def load(self, x: Buffer) -> nn.Module:
        """Return the module with the parameters x."""
        with self.layout.flat():
            self.layout.params[:] = x.reshape(-1)
        return self.module


class Model:
    """A torch module as `run` wants it: a start `x0` and a `gradient`.

    factory: returns the module, the same at every call; each thread has a replica of its own. Under `Simulated`
        all workers run in one thread, so they share BatchNorm's statistics.
    loss: (module, batch) -> scalar tensor.

    >>> import loosestep as ls, loosestep.torch, torch
    >>> network = lambda: torch.nn.Linear(2, 1, bias=False)
    >>> model = loosestep.torch.Model(network, lambda net, batch: ((net(batch) - 1) ** 2).mean())
    >>> rows = lambda rank, size: iter([torch.eye(2)] * 200)
    >>> result = ls.run(ls.LocalSGD(4), model.gradient, model.x0, rows, on=ls.Threads(2))
    >>> [[round(float(w), 3) for w in row] for row in model.module(result.params).weight.tolist()]
    [[1.0, 1.0]]
    """

    def __init__(self, factory: Callable[[], nn.Module], loss: Callable[[nn.Module, Any], Any]) -> None:
        checks.callable_("factory", factory)
        checks.callable_("loss", loss, " of (module, batch)")
        self.factory, self.loss = factory, loss
        self.local = threading.local()
        self.x0 = here(self.replica().layout.params).copy()

    def replica(self) -> Replica:
        """Return this thread's replica."""
        if not hasattr(self.local, "replica"):
            self.local.replica = Replica(self.factory)
        replica: Replica = self.local.replica
        return replica

    def gradient(self, x: Buffer, batch: Any) -> tuple[float, Buffer]:
        """Return the loss on a batch, and its gradient at x."""
        replica = self.replica()
        module = replica.load(x)
        module.zero_grad()
        loss = self.loss(module, batch)
        loss.backward()
        for slot in replica.layout.slots:
            copy_gradient(slot)
        return float(loss.detach()), here(replica.grad)

    def input_gradient(self, x: Buffer, batch: Any) -> Any:
        """Return the gradient of the loss on a batch with respect to its first part, at the parameters x.

        That part may be a numpy array or a tensor, and the gradient is what it is. The module is in eval() mode
        meanwhile: attacks neither move BatchNorm's statistics nor draw dropouts.
        """
        module, (inputs, *rest) = self.replica().load(x), batch
        found = inputs if isinstance(inputs, torch.Tensor) else torch.tensor(inputs)
        slope = input_gradient(module, found, lambda moved: self.loss(module, (moved, *rest)), "eval")
        return slope if found is inputs else slope.numpy()

    def module(self, x: Buffer) -> nn.Module:
        """Return this thread's module with the parameters x, to evaluate or save; `gradient` changes them."""
        return self.replica().load(x)
