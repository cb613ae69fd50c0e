"""The leaves of a pytree of parameters: what they must be, and their values in one flat buffer."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from loosestep import ops
from loosestep.foundation import buffers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from loosestep.requests import Buffer

Leaves = list[Any]


class Layout:
    """Where each leaf of a pytree lies in a flat buffer of the widest dtype, at least float32.

    Raises TypeError or ValueError, which names the leaf, for a tree that cannot be trained.
    """

    def __init__(self, params: Any) -> None:
        named, self.structure = jax.tree_util.tree_flatten_with_path(params)
        if not named:
            raise ValueError("params is a pytree without leaves: there is nothing to train")
        self.names = [f"params{jax.tree_util.keystr(path)}" for path, _ in named]
        self.leaves = [trainable(name, leaf) for name, (_, leaf) in zip(self.names, named, strict=True)]
        self.shapes: tuple[tuple[int, ...], ...] = tuple(leaf.shape for leaf in self.leaves)
        self.dtypes = [leaf.dtype for leaf in self.leaves]
        edges = list(accumulate((leaf.size for leaf in self.leaves), initial=0))
        self.starts, self.size = edges[:-1], edges[-1]
        self.slices = [slice(low, high) for low, high in pairwise(edges)]
        self.dtype = np.dtype(np.float64 if any(kind == np.float64 for kind in self.dtypes) else np.float32)

    def flat(self) -> Buffer:
        """Return a buffer with the values of the leaves. Raises ValueError where one is not finite."""
        made = buffers.zeros(self.size, self.dtype)
        self.write(self.leaves, made)
        if not ops.all_finite(made):
            pairs = zip(self.names, self.slices, strict=True)
            name = next(name for name, part in pairs if not ops.all_finite(made[part].copy()))
            raise ValueError(f"{name} holds values that are not finite")
        return made

    def write(self, leaves: Leaves, buffer: Buffer) -> None:
        """Copy the values of leaves into a flat buffer, when they are computed."""
        for leaf, part in zip(leaves, self.slices, strict=True):
            buffer[part] = np.asarray(leaf).reshape(-1)

    def read(self, buffer: Buffer, dtypes: Sequence[Any] | None = None) -> Leaves:
        """Return leaves with the values of a flat buffer, rounded to their dtypes, or to those given."""
        facts = zip(self.slices, self.shapes, dtypes or self.dtypes, strict=True)
        return [jnp.array(buffer[part].reshape(shape).astype(kind)) for part, shape, kind in facts]

    def tree(self, leaves: Leaves) -> Any:
        """Return the pytree with these leaves."""
        return jax.tree_util.tree_unflatten(self.structure, leaves)

    def like(self, what: str, given: Any, check: Callable[[str, Any, Any], Any]) -> Leaves:
        """Return the leaves of a pytree of the same structure, each as `check(name, leaf, own)` returns it."""
        leaves, structure = jax.tree_util.tree_flatten(given)
        if structure != self.structure:
            raise TypeError(f"{what} must be a pytree like params, {self.structure}, got {structure}")
        return [check(*each) for each in zip(self.names, leaves, self.leaves, strict=True)]


def trainable(name: str, leaf: Any) -> Any:
    """Return a leaf as an array. Raises TypeError for one that no gradient step can move here."""
    refuse_tracer("parallel() and Model()", leaf)
    if not isinstance(leaf, (jax.Array, np.ndarray, np.generic, float, int)):
        raise TypeError(f"{name} must be an array, got {type(leaf).__name__}: leave it out of params")
    if jnp.result_type(leaf) not in (jnp.float32, jnp.float64, jnp.bfloat16, jnp.float16):
        raise TypeError(
            f"{name} must be float32, float64, bfloat16 or float16, got {jnp.result_type(leaf)}: leave out of "
            "params what no gradient trains, such as counters, keys of random numbers and masks"
        )
    check_place(name, leaf)
    return jnp.array(leaf, jnp.result_type(leaf))  # of a weak type too: the next one would compile anew


def check_place(name: str, leaf: Any) -> None:
    """Refuse a leaf that is not on one CPU device."""
    if isinstance(leaf, jax.Array):
        places = leaf.devices()
        kinds = {place.platform for place in places}
        if kinds != {"cpu"}:
            raise TypeError(
                f"{name} is on a {'/'.join(sorted(kinds))}, and loosestep.jax trains on the CPU: set "
                "JAX_PLATFORMS=cpu, or move params by jax.device_put(params, jax.devices('cpu')[0])"
            )
        if len(places) > 1:
            raise TypeError(
                f"{name} lies on {len(places)} devices, and a worker trains on one: give each worker an array of "
                "its own, without a sharding"
            )


def refuse_tracer(what: str, leaf: Any) -> None:
    """Raise TypeError where a call is compiled instead of made."""
    if isinstance(leaf, jax.core.Tracer):
        raise TypeError(
            f"{what} cannot be called inside jax.jit, grad or vmap, since workers communicate there: compile the "
            "function that returns the gradient, and call it outside"
        )
