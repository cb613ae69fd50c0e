"""What a checkpoint of a JAX loop keeps: the optimizer's state, a pytree of the user's, random numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from loosestep.foundation.errors import CheckpointError
from loosestep.jax.setup import kind_of
from loosestep.jax.tree import refuse_tracer
from loosestep.runtime.checkpoint.random_states import load_random_states, save_random_states

if TYPE_CHECKING:
    from loosestep.jax.step_model import JaxModel
    from loosestep.runtime.checkpoint.folder import Facts

Tensors = dict[str, Any]


class JaxContents:
    """The state of an optax optimizer."""

    def __init__(self, model: JaxModel) -> None:
        self.model, self.layout = model, model.layout

    def kind(self) -> str:
        """Return the names of what the optimizer's state consists of."""
        return kind_of(self.model.state)

    def shapes(self) -> list[tuple[str, tuple[int, ...], str]]:
        """Return (name, shape, dtype) of every parameter."""
        layout = self.layout
        return list(zip(layout.names, layout.shapes, map(str, layout.dtypes), strict=True))

    def count(self) -> int:
        """Return how many numbers the flat buffer of the parameters has."""
        return self.model.worker.params.size

    def check_unchanged(self) -> None:
        """Do nothing: the structure of the parameters cannot change."""

    def save(self, tensors: Tensors) -> Facts:
        """Put arrays into `tensors`, and return the rest as JSON."""
        return {"optimizer": save_tree("optimizer", self.model.state, tensors)}

    def check(self, tensors: Tensors, facts: Facts, where: str) -> None:
        """Refuse what cannot be loaded here, before anything is changed."""
        check_tree("an optimizer whose state has", self.model.state, facts["optimizer"], where)

    def load(self, tensors: Tensors, facts: Facts) -> None:
        """Load what `save` gave."""
        self.model.state = load_tree("optimizer", self.model.state, tensors)


class JaxBeside:
    """A pytree of the user's, and the states of numpy's and Python's generators."""

    def __init__(self) -> None:
        self.loaded: Any = None  # the pytree that a checkpoint held
        self.found = False

    def checked(self, also: Any) -> None:
        """Raise TypeError for what cannot be saved and loaded."""
        for path, leaf in jax.tree_util.tree_flatten_with_path(also)[0]:
            refuse_tracer("save()", leaf)
            if not isinstance(leaf, (jax.Array, np.ndarray, np.generic, bool, int, float)):
                raise TypeError(
                    f"also{jax.tree_util.keystr(path)} is of type {type(leaf).__name__}: save() keeps pytrees of "
                    "arrays and numbers"
                )

    def save(self, also: Any, tensors: Tensors) -> Facts:
        """Put arrays into `tensors`, and return the rest as JSON."""
        return {"also": save_tree("also", also, tensors), "random": save_random_states(tensors)}

    def check(self, also: Any, facts: Facts, where: str) -> None:
        """Refuse another pytree than that which was saved, before anything is changed."""
        check_tree("also=", also, facts["also"], where)

    def load(self, also: Any, tensors: Tensors, facts: Facts) -> None:
        """Keep what `save` was given for the answer of `restore`."""
        self.loaded, self.found = load_tree("also", also, tensors), True

    def load_random_states(self, tensors: Tensors, facts: Facts) -> None:
        """Let generators go on drawing where the checkpoint stood."""
        load_random_states(tensors, facts.get("random", {}))


def save_tree(name: str, tree: Any, tensors: Tensors) -> list[Any]:
    """Put the leaves of a pytree into `tensors`, and return the path, shape and dtype of each."""
    for number, leaf in enumerate(jax.tree_util.tree_leaves(tree)):
        tensors[f"{name}.{number}"] = to_array(leaf)
    return described(tree)


def described(tree: Any) -> list[Any]:
    """Return [path, shape, dtype] of every leaf."""
    found = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [
        [jax.tree_util.keystr(path), list(jnp.shape(leaf)), str(jnp.result_type(leaf))] for path, leaf in found
    ]


def check_tree(what: str, tree: Any, saved: list[Any], where: str) -> None:
    """Raise CheckpointError, which says the first difference, for a pytree of another kind than was saved."""
    here = described(tree)
    if len(saved) != len(here):
        raise CheckpointError(f"{where} was saved with {what} {len(saved)} arrays, and here there are {len(here)}")
    for there, own in zip(saved, here, strict=True):
        if there != own:
            raise CheckpointError(f"{where} was saved with {what} {in_words(there)}, and here {in_words(own)}")


def in_words(leaf: list[Any]) -> str:
    """Return path, shape and dtype of a leaf as text."""
    path, shape, kind = leaf
    return f"{path or 'an array'} of shape {tuple(shape)} and {kind}"


def to_array(leaf: Any) -> Any:
    """Return a leaf as an array for a file: narrow floating-point types as float32, which holds them exactly."""
    if is_key(leaf):
        leaf = jax.random.key_data(leaf)
    values = np.asarray(leaf)
    narrow = jnp.issubdtype(values.dtype, jnp.floating) and values.dtype.itemsize < 4
    return values.astype(np.float32) if narrow else values


def load_tree(name: str, tree: Any, tensors: Tensors) -> Any:
    """Return a pytree like this one, with the values that were saved."""
    leaves, structure = jax.tree_util.tree_flatten(tree)
    loaded = [from_array(leaf, tensors[f"{name}.{number}"]) for number, leaf in enumerate(leaves)]
    return jax.tree_util.tree_unflatten(structure, loaded)


def from_array(like: Any, values: Any) -> Any:
    """Return saved values as a leaf of the same kind."""
    if is_key(like):
        return jax.random.wrap_key_data(jnp.array(values), impl=jax.random.key_impl(like))
    if isinstance(like, (bool, int, float)):
        return type(like)(values.item())
    values = values.astype(like.dtype)
    if isinstance(like, jax.Array):
        return jnp.array(values)
    return values[()] if isinstance(like, np.generic) else values


def is_key(leaf: Any) -> bool:
    """Return whether this is a typed key of random numbers."""
    return isinstance(leaf, jax.Array) and bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))
