"""One worker's gradients and updates, made by the user's own gradients and an optax optimizer."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from loosestep import ops
from loosestep.foundation import buffers
from loosestep.jax.tree import refuse_tracer
from loosestep.requests import Gradient, Ready, Update
from loosestep.runtime.program import GRADIENT
from loosestep.runtime.user_loop import UserFeed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from loosestep.jax.tree import Layout, Leaves
    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker
    from loosestep.strategies.base import Strategy


@partial(jax.jit, static_argnums=0)
def advance(inner: Any, grads: Any, state: Any, params: Any, extra: Any) -> tuple[Any, Any]:
    """Return parameters and state after a step of an optax optimizer."""
    inner = optax.with_extra_args_support(inner)
    updates, state = inner.update(grads, state, params, **extra)
    return optax.apply_updates(params, updates), state


class JaxModel:
    """Performs `Gradient`, `Ready` and `Update` for one worker.

    Parameters are either newer in the flat buffer, which strategies move, or as leaves, which the optimizer makes
    anew; `leaves_now` and `flat` bring the one up to date with the other. Local steps touch the leaves alone.
    A step weighs 1 in averages, whatever its batch; its rows, where the library deals them by speed.
    """

    native: ClassVar[frozenset[type[Request]]] = frozenset({Gradient, Ready, Update})

    def __init__(self, layout: Layout, worker: Worker, inner: Any, strategy: Strategy) -> None:
        self.layout, self.worker, self.inner = layout, worker, inner
        self.synchronous = lambda: strategy.synchronous  # of a schedule, its part
        self.leaves: Leaves = []
        self.state: Any = None  # the optimizer's
        self.newer = "flat"  # or 'leaves', or 'both'
        self.inside = 0  # blocks of `flat`
        self.grads: Leaves = []  # of this step, as the user gave them
        self.extra: dict[str, Any] = {}  # what the optimizer gets besides
        self.flat_grad = False  # the strategy has the gradient, or has averaged it, in the flat buffer
        self.feed = UserFeed()
        self.rows: int | None = None  # of the next batch, where the library chose it
        self.samples = self.steps = self.updates = 0
        self.losses = (0.0, 0)
        self.begun = False  # a gradient was taken that no update has used
        self.idle = False  # the gradient holds nothing of this worker
        self.moments = Moments(self)
        worker.rate_at, worker.moments = self.rate, self.moments
        self.handlers: dict[type[Request], Callable[[Any], None]] = {
            Gradient: self.gradient,
            Ready: self.ready,
            Update: self.update,
        }

    # --- parameters --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Let the optimizer begin at the parameters in the flat buffer, which are the same on all workers."""
        self.state = self.inner.init(self.layout.tree(self.leaves_now()))

    def leaves_now(self) -> Leaves:
        """Return the leaves as they are now."""
        if self.newer == "flat":
            self.leaves = self.layout.read(self.worker.params)
            self.newer = "both"
        return self.leaves

    @contextmanager
    def flat(self) -> Iterator[None]:
        """Let the flat buffer hold the parameters inside the block; what it then holds are the parameters."""
        self.write_flat()
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
            self.newer = "flat"
            self.moments.put_back()

    def write_flat(self) -> None:
        """Copy the leaves into the flat buffer, if they are newer."""
        if self.newer == "leaves":
            self.layout.write(self.leaves, self.worker.params)
            self.newer = "both"

    def finite(self) -> bool:
        """Return whether parameters, and what the optimizer keeps, are finite."""
        kept = [*self.leaves_now(), *jax.tree_util.tree_leaves(self.state)]
        return all(bool(jnp.isfinite(leaf).all()) for leaf in kept if is_floating(leaf))

    # --- gradients ---------------------------------------------------------------------------------------

    def take(self, grads: Any, extra: dict[str, Any]) -> None:
        """Keep the user's gradient for this step, when it is computed."""
        for name, value in extra.items():
            if callable(value):
                raise TypeError(
                    f"{name}= is a function, for an optimizer that takes gradients by itself (a line search), "
                    "and a strategy's step has one gradient: use an optimizer that steps with it"
                )
        self.grads = jax.block_until_ready(self.layout.like("the gradient", grads, self.checked))
        self.extra, self.flat_grad = extra, False

    def checked(self, name: str, leaf: Any, own: Any) -> Any:
        """Return the gradient of a leaf as an array. Raises TypeError or ValueError for one of another kind."""
        refuse_tracer("step()", leaf)
        if not isinstance(leaf, (jax.Array, np.ndarray, np.generic, float)) or not is_floating(leaf):
            given = getattr(leaf, "dtype", type(leaf).__name__)
            raise TypeError(f"the gradient of {name} must be floating-point numbers, got {given}")
        kind = jnp.result_type(leaf)
        if kind.itemsize > self.layout.dtype.itemsize:
            raise TypeError(f"the gradient of {name} is {kind}, wider than any parameter: cast it to {own.dtype}")
        if np.shape(leaf) != own.shape:
            raise ValueError(f"the gradient of {name} must be of shape {own.shape}, got {np.shape(leaf)}")
        return jnp.asarray(leaf)

    def gradient(self, request: Gradient) -> None:
        """Take the gradient as the user gave it."""
        self.begin()
        if request is not GRADIENT:
            self.fill()

    def ready(self, request: Ready) -> None:
        """Complete a bucket, which is then sent."""
        if request.bucket.index == 0:
            self.begin()
            self.fill()

    def begin(self) -> None:
        """Count one step of this worker."""
        worker = self.worker
        if self.begun:
            raise TypeError("a loop of your own makes one gradient a step, and the strategy asks for two: use run")
        self.begun, self.idle = True, self.feed.closed
        worker.clock += 1
        if self.idle:
            return
        rows, self.rows = self.rows, None
        if rows is None and worker.fractions is not None:
            raise TypeError("batches whose sizes follow the workers' speeds are those of trainer.shard(...) alone")
        worker.samples += rows or 1
        self.samples += rows or 1
        self.steps += 1

    def fill(self) -> None:
        """Copy the gradient into the flat one, zero where this worker has none."""
        if self.idle:
            self.worker.grad.fill(0)
        else:
            self.layout.write(self.grads, self.worker.grad)
        self.flat_grad = True

    # --- updates -----------------------------------------------------------------------------------------

    def update(self, request: Update) -> None:
        """Make a step of the optimizer, unless this worker had no gradient."""
        self.begun = False
        if self.idle and (request.local or not self.synchronous()):
            return
        self.updates += 1
        if request.proximal is None:
            self.step()
            return
        proximal, worker = request.proximal, self.worker
        with self.flat():
            if not self.flat_grad:
                self.fill()
            ops.proximal(worker.grad, worker.params, proximal.anchor, proximal.strength)
            self.step()
            ops.blend(proximal.mean, worker.params, proximal.keep)

    def step(self) -> None:
        """Make a step of the optimizer, with the flat gradient if the strategy has seen it."""
        if self.inside:  # the strategy may have moved them since
            self.newer = "flat"
            self.moments.put_back()
        tree = self.layout.tree
        kinds = [grad.dtype for grad in self.grads] or None
        grads = self.layout.read(self.worker.grad, kinds) if self.flat_grad else self.grads
        params, self.state = advance(self.inner, tree(grads), self.state, tree(self.leaves_now()), self.extra)
        self.leaves, self.newer, self.grads = jax.tree_util.tree_leaves(params), "leaves", []
        if self.inside:
            self.write_flat()

    def rate(self, step: int) -> float:
        """Return the learning rate that the optimizer's state holds."""
        try:
            found = optax.tree_utils.tree_get(self.state, "learning_rate")
        except KeyError:  # several
            found = None
        if found is None:
            raise TypeError(
                "optax keeps the learning rate inside functions, where the strategy cannot follow it: say the "
                "strategy's own, as in SlowMo(rate=0.1), or use optax.inject_hyperparams(...)(learning_rate=...)"
            )
        return float(found)


class Moments:
    """What the optimizer keeps for each element of a parameter, as buffers that a strategy may average or zero.

    JAX's arrays do not change: a buffer that was handed out is a copy, and takes its array's place afterwards.
    """

    def __init__(self, model: JaxModel) -> None:
        self.model = model
        self.lent: dict[int, Buffer] = {}

    def __iter__(self) -> Iterator[Buffer]:
        state = self.model.state
        of_params = optax.tree_utils.tree_map_params(
            self.model.inner, lambda leaf: True, state, transform_non_params=lambda leaf: False
        )
        leaves, of = map(jax.tree_util.tree_leaves, (state, of_params))
        for number, (leaf, is_moment) in enumerate(zip(leaves, of, strict=True)):
            if is_moment and is_floating(leaf):
                yield self.buffer(number, np.asarray(leaf))

    def ordered(self) -> Iterator[tuple[int, Buffer]]:
        """Yield each with its place among those of its parameter: all first moments come before all second."""
        for number, buffer in enumerate(self):
            yield number // max(1, len(self.model.leaves)), buffer

    def buffer(self, number: int, values: Any) -> Buffer:
        """Return a copy of an array, the same one until it is put back."""
        if number not in self.lent:
            kind = np.float64 if values.dtype == np.float64 else np.float32
            self.lent[number] = buffers.zeros(values.size, kind)
            self.lent[number][:] = values.reshape(-1)
        return self.lent[number]

    def put_back(self) -> None:
        """Let the optimizer's state hold what became of the buffers."""
        if self.lent:
            leaves, structure = jax.tree_util.tree_flatten(self.model.state)
            for number, buffer in self.lent.items():
                was = leaves[number]
                leaves[number] = jnp.array(buffer.reshape(was.shape).astype(was.dtype))
            self.model.state = jax.tree_util.tree_unflatten(structure, leaves)
            self.lent.clear()


def is_floating(leaf: Any) -> bool:
    """Return whether these are floating-point numbers, of whatever width."""
    return bool(jnp.issubdtype(jnp.result_type(leaf), jnp.floating))
