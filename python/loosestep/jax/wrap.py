"""`parallel`: makes the optax optimizer of a JAX loop parallel; loop, loss and optimizer stay the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loosestep.foundation import checks
from loosestep.jax.setup import RunOptions, check_optimizer
from loosestep.jax.trainer import Trainer
from loosestep.jax.tree import Layout
from loosestep.transports.base import Transport
from loosestep.transports.launched import launched

if TYPE_CHECKING:
    from loosestep.strategies.base import Strategy


def parallel(
    params: Any,
    optimizer: Any,
    strategy: Strategy,
    on: Transport | None = None,
    *,
    seed: int = 0,
    steps_per_epoch: int | None = None,
) -> Trainer:
    """Return a trainer, which holds the parameters and steps with a strategy, in a loop of your own.

    Each `step(g_i)` of worker i does this; which parts a strategy has, and on which steps, its own docstring says:

        g_i <- average of all g_j             where the strategy averages gradients (`AllReduceSGD`)
        x_i <- optimizer(x_i, g_i)            update and apply_updates of the optax optimizer that you pass
        x_i <- strategy(x_1, ..., x_n)        where a round ends: the mean, a move to the center, neighbors' values

    With one worker and a strategy whose average is then the identity, the bits are those of plain optax, whose
    `update` and `apply_updates` are compiled together.

    params: a pytree of float32, float64, bfloat16 or float16 arrays on one CPU device; all workers start from rank
        0's. Where dtypes differ, averages and centers are of the widest (at least float32), and what comes back is
        rounded to each leaf's. The tree that you pass is not changed: read `trainer.params`.
    optimizer: an optax.GradientTransformation. Its state stays this worker's own, unless the strategy averages it.
    strategy: when and how workers combine their work, such as `LocalSGD(period=8)`.
    on: the transport; by default what joins the processes that a launcher started (MPI() under mpiexec, ZMQ()
        under torchrun and srun), Serial() where it started one. A process that was started as one of several and
        cannot join them is refused; on=Serial() lets it train alone.
    seed: of what a strategy draws at random, such as the noise of `EntropySGD`; not of your data or model.
    steps_per_epoch: steps in an epoch of this loop, for `Stages`. At the end of a stage all workers go to the
        consensus, and the optimizer's moments become their mean.

    Raises TypeError or ValueError for bad input, and for a strategy that needs more than a loop of your own can
    give; RuntimeError where a process would train alone; Mismatch where workers differ in what they must have
    alike. Of the optimizer these are the names and shapes of its state, and what `optax.inject_hyperparams` keeps
    there: a learning rate inside a function cannot be compared.

    >>> import jax, jax.numpy as jnp, loosestep as ls, loosestep.jax, optax
    >>> loss = lambda params, batch: ((batch @ params["weight"] - 1) ** 2).mean()
    >>> gradient = jax.jit(jax.value_and_grad(loss))
    >>> start = {"weight": jnp.zeros(2)}
    >>> trainer = loosestep.jax.parallel(start, optax.sgd(0.5), ls.EASGD(period=10), ls.Serial())
    >>> with trainer:
    ...     for batch in [jnp.eye(2)] * 100:
    ...         value, grads = gradient(trainer.params, batch)
    ...         params = trainer.step(grads)
    >>> [round(float(weight), 2) for weight in trainer.consensus()["weight"]]
    [1.0, 1.0]

    Leave `on` out in a script that several processes run, as `loosestep run -n 4 train.py` starts them. `with
    trainer:` tells the others when this worker's data ends; left out, that is when the script ends. Every step
    weighs the same in an average, so workers' batches should be of one size.
    """
    run = RunOptions(strategy, seed, steps_per_epoch).checked()
    check_optimizer(optimizer)
    if on is not None:
        checks.instance("on", on, Transport)
    return Trainer(Layout(params), optimizer, run, on or launched())
