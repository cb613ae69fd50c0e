"""`Model`: a loss of a pytree for `run`, whose loop the library owns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax

from loosestep.foundation import buffers, checks
from loosestep.jax.tree import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from loosestep.requests import Buffer


class Model:
    """A loss of a pytree as `run` wants it: a start `x0` and a `gradient`, both flat.

    loss: (params, batch) -> scalar, compiled by jax.jit; a batch is any pytree of arrays.
    params: the pytree at which training begins, float32, float64, bfloat16 or float16. Where dtypes differ, `x0`
        is of the widest, at least float32, and the loss sees every leaf rounded to its own.

    `shapes` are those of the leaves, for the `shapes=` of `run`.

    >>> import jax.numpy as jnp, loosestep as ls, loosestep.jax
    >>> loss = lambda params, batch: ((batch @ params["weight"] - 1) ** 2).mean()
    >>> model = loosestep.jax.Model(loss, {"weight": jnp.zeros(2)})
    >>> rows = lambda rank, size: iter([jnp.eye(2)] * 200)
    >>> result = ls.run(ls.LocalSGD(4), model.gradient, model.x0, rows, on=ls.Threads(2))
    >>> [round(float(w), 3) for w in model.unflatten(result.params)["weight"]]
    [1.0, 1.0]
    """

    def __init__(self, loss: Callable[[Any, Any], Any], params: Any) -> None:
        checks.callable_("loss", loss, " of (params, batch)")
        self.layout = Layout(params)
        self.x0, self.shapes = self.layout.flat(), self.layout.shapes
        self._compiled = jax.jit(jax.value_and_grad(loss))

    def gradient(self, x: Buffer, batch: Any) -> tuple[float, Buffer]:
        """Return the loss on a batch, and its gradient at x."""
        loss, gradient = self._compiled(self.unflatten(x), batch)
        flat = buffers.like(self.x0)
        self.layout.write(jax.tree_util.tree_leaves(gradient), flat)
        return float(loss), flat

    def unflatten(self, x: Buffer) -> Any:
        """Return the pytree with the values of x, to evaluate or to save."""
        return self.layout.tree(self.layout.read(x.reshape(-1)))
