"""A least-squares problem of a small pytree, in JAX, in optax alone, and in numpy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import loosestep as ls
import loosestep.jax

ROWS = 8
START = {
    "bias": np.array([0.5, -0.5], np.float32),
    "weight": np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 2),
}
SGD = optax.sgd(0.1)
MOMENTUM = optax.sgd(0.1, momentum=0.9)
ADAM = optax.adam(0.01)
FOLLOWED = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=0.9)
"""One whose learning rate a strategy can follow."""


def noise() -> Any:
    """A transformation that keeps a key of random numbers."""
    try:
        return optax.add_noise(0.01, 0.5, key=jax.random.key(3))
    except TypeError:  # optax before 0.2.5
        return optax.add_noise(0.01, 0.5, seed=3)


NOISY = optax.chain(noise(), SGD)


def loss_of(params: Any, batch: Any) -> Any:
    x, y = batch
    return ((x @ params["weight"] + params["bias"] - y) ** 2).mean()


gradient = jax.jit(jax.value_and_grad(loss_of))


def start() -> Any:
    return jax.tree_util.tree_map(jnp.array, START)


def batch(step: int, rank: int = 0, rows: int = ROWS) -> tuple[Any, Any]:
    random = np.random.default_rng([step, rank])
    return random.normal(size=(rows, 3)).astype(np.float32), random.normal(size=(rows, 2)).astype(np.float32)


def batches(count: int, rank: int = 0) -> Iterator[tuple[Any, Any]]:
    return (batch(step, rank) for step in range(count))


def flat(tree: Any) -> Any:
    return np.concatenate([np.asarray(leaf, np.float32).reshape(-1) for leaf in jax.tree_util.tree_leaves(tree)])


def numpy_gradient(x: Any, batch: Any) -> tuple[float, Any]:
    """The same, of the flat parameters."""
    (rows, y), weight = batch, x[2:].reshape(3, 2)
    apart = rows @ weight + x[:2] - y
    slope = 2 * apart / apart.size
    return float((apart**2).mean()), np.concatenate([slope.sum(0), (rows.T @ slope).reshape(-1)])


def parallel(strategy: ls.Strategy | None = None, optimizer: Any = MOMENTUM, **options: Any) -> Any:
    options.setdefault("on", ls.Serial())
    params = options.pop("params", START)
    return loosestep.jax.parallel(params, optimizer, strategy or ls.LocalSGD(2), **options)


def train(trainer: Any, data: Iterable[Any]) -> None:
    for each in data:
        trainer.step(gradient(trainer.params, each)[1])


def plain(optimizer: Any, data: Iterable[Any], params: Any = None) -> Any:
    """What optax alone does, compiled as its pages say."""
    params = params or start()
    state = optimizer.init(params)

    @jax.jit
    def step(params: Any, state: Any, grads: Any) -> Any:
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for each in data:
        params, state = step(params, state, gradient(params, each)[1])
    return params


def same_bits(one: Any, other: Any) -> bool:
    leaves = zip(jax.tree_util.tree_leaves(one), jax.tree_util.tree_leaves(other), strict=True)
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in leaves)
