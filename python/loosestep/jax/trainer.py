"""What `parallel` returns: parameters, an optimizer, and a step that is a strategy's."""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from loosestep.data.dealt_rows import count_of
from loosestep.foundation import checks
from loosestep.foundation.errors import Mismatch
from loosestep.jax.data import Shard, SharedOut
from loosestep.jax.saving import JaxBeside, JaxContents
from loosestep.jax.setup import check_apart, facts, hyperparameters, print_banner
from loosestep.jax.step_model import JaxModel
from loosestep.requests import Broadcast, Update
from loosestep.runtime.agreement.meeting import Agreement
from loosestep.runtime.agreement.stopping import Stopping
from loosestep.runtime.agreement.together import Together
from loosestep.runtime.agreement.values import Foreign
from loosestep.runtime.checkpoint.folder import KEEP
from loosestep.runtime.checkpoint.loop import Checkpoints
from loosestep.runtime.checkpoint.member import Member
from loosestep.runtime.exit_handler import ClosedAtEnd, ExitHandler, end_with
from loosestep.runtime.program import GRADIENT
from loosestep.runtime.resting import Resting
from loosestep.runtime.user_loop import Connection, Loop
from loosestep.strategies.base import Need
from loosestep.transports.matching import build
from loosestep.transports.serial import Serial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from loosestep.jax.setup import RunOptions
    from loosestep.jax.tree import Layout
    from loosestep.transports.base import Transport

Answer = TypeVar("Answer")


def foreign(x: Any) -> Foreign | None:
    """Return the numbers of one of JAX's arrays, and what makes the like of it; None for anything else."""
    if not isinstance(x, jax.Array) or not jnp.issubdtype(x.dtype, jnp.number) or jnp.iscomplexobj(x):
        return None
    kind = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.float32
    numbers = np.asarray(x).astype(np.float64)
    return Foreign("JAX array", x.shape, numbers, lambda mean: jnp.array(mean.astype(kind)))


class Trainer(ClosedAtEnd, Together, Resting):
    """One worker of a run: its parameters, its optimizer, and a step that is a strategy's. `parallel` makes it.

    `rank` and `size` are this worker's, `meter` counts what it sent.
    """

    word = "trainer"
    _foreign = staticmethod(foreign)

    def __init__(self, layout: Layout, inner: Any, run: RunOptions, on: Transport) -> None:
        self.layout, self.needs = layout, run.strategy.needs
        self.connection = Connection(on, layout.flat(), run.seed)
        self.process = os.getpid()
        self.worker, self.meter = self.connection.worker, self.connection.meter
        self.rank, self.size = self.worker.rank, self.worker.size
        self.model = JaxModel(layout, self.worker, inner, run.strategy)
        self.zero = jnp.zeros(())
        self.orders: list[Shard | SharedOut] = []  # which must be alike on all workers
        self._begin(run)
        self.beside = JaxBeside()
        self.checkpoints = Checkpoints([Member(JaxContents(self.model), self.agreement)], self.beside)
        self.exit_handler: ExitHandler | None = None  # Serial() has nobody to tell that it ends, and no thread
        if self.size > 1 or type(on) is not Serial:
            self.exit_handler = ExitHandler(self._at_exit)
        if self.size > 1:
            print_banner(run, on, self.model.state, self.worker)

    def _begin(self, run: RunOptions) -> None:
        """Check that all workers do the same, and start all from rank 0's values."""
        strategy, worker = run.strategy, self.worker
        try:
            check_apart(strategy, self.size)
            self.connection.compute_with(self.model)
            worker.edges = self.layout.starts
            self.model.start()
            told = facts(run, self.layout, self.model.state)
            self.connection.agree(told | (build(strategy) if self.size > 1 else {}))
            with self.model.flat():
                self.connection.run_unmetered([Broadcast(worker.params)])
            self.model.start()
            self.loop = Loop(strategy, self.connection, self.model, run.steps_per_epoch)
            self.agreement, self.stop_at = Agreement(self.loop, self.word), Stopping(self.loop)
            self.model.synchronous = lambda: self.loop.program.strategy.synchronous
        except BaseException as error:
            self.connection.session.leave(error)
            raise

    # --- what a loop reads -------------------------------------------------------------------------------

    @property
    def params(self) -> Any:
        """This worker's own parameters, the pytree at which to take the next gradient.

        Read it before every gradient, and outside compiled functions, for which it would be a constant: there it
        raises RuntimeError.
        """
        if isinstance(self.zero + self.zero, jax.core.Tracer):  # which it is where a function is compiled
            raise RuntimeError(  # noqa: TRY004, the place is wrong
                "trainer.params inside jax.jit would stay what it is now, whatever is trained: give the compiled "
                "function the parameters as an argument"
            )
        if not self.loop.over:
            self.loop.forward()
        return self._tree()

    def _tree(self) -> Any:
        return self.layout.tree(self.model.leaves_now())

    @property
    def opt_state(self) -> Any:
        """The state of the optax optimizer, which is this worker's own."""
        return self.model.state

    # --- steps -------------------------------------------------------------------------------------------

    def step(self, grads: Any, **extra: Any) -> Any:
        """Make one step of the strategy with this gradient, and return the parameters after it.

        grads: a pytree like params, as jax.grad returns it. extra: what else `update` of the optimizer takes, such
            as value= for optax.contrib.reduce_on_plateau: numbers and arrays.

        Gradients are averaged if the strategy says so; the optimizer steps; where a round ends, parameters are
        exchanged. Raises TypeError or ValueError for a gradient of another kind and inside jax.jit; PeerFailed
        where another worker failed.
        """
        self._require_own("step()")
        self.model.take(grads, extra)
        self._to_update()
        if self.dropped:
            self.dropped = False
            return self._tree()
        self.loop.perform()  # the update
        with self._exchange():
            self.loop.finish()
        return self._tree()

    def _to_update(self) -> None:
        """Go on to where the gradient is what the optimizer is to see."""
        if Need.PARTIAL_PARTICIPATION in self.needs and self._has_rested():
            return
        pending = self.loop.pending
        local = pending is GRADIENT or type(pending) is Update  # the strategy does nothing before the update
        with nullcontext() if local else self.model.flat():
            self.loop.to_update()

    def _exchange(self) -> AbstractContextManager[None]:
        """Return the flat buffer's block, or none in the middle of local steps, where no strategy looks."""
        program = self.loop.program
        return nullcontext() if program.steps_left and not program.sync_due() else self.model.flat()

    def _require_own(self, what: str) -> None:
        """Refuse a call after the end, or in a forked process."""
        if self.loop.over:
            raise RuntimeError(f"the run has ended: {what} belongs inside the `with trainer:` that began it")
        if os.getpid() != self.process:
            self.loop.endpoint.check()

    def shard(self, data: Any, batch_size: int = 1, *, seed: int = 0, shuffle: bool = True) -> Any:
        """Return this worker's part of `data`, a data set with len() or a number of rows: arrays of row numbers.

            for rows in trainer.shard(len(x), batch_size=64): batch = x[rows], y[rows]

        Every pass is the next epoch, in which a row goes to one worker. Its `state_dict()` is JSON, for the note
        of `save`. Under `DBS` batches are of `batch_size` rows on average, and a worker's follow its speed.
        """
        rows = count_of(data, self.size)
        batch_size, seed = checks.integer("batch_size", batch_size), checks.integer("seed", seed, 0)
        if Need.GLOBAL_BATCHES in self.needs:
            self.orders.append(SharedOut(rows, batch_size * self.size, seed, shuffle, self.model, self.ready))
        else:
            self.orders.append(Shard(rows, batch_size, seed, shuffle, self.worker, 1))
        return self.orders[-1]

    # --- the consensus -----------------------------------------------------------------------------------

    def consensus(self) -> Any:
        """Return the pytree to evaluate and to save: the mean of all workers' parameters, or the center.

        Where the strategy's consensus is collective all workers must come here at the same step; where it is
        one-sided any worker may come alone. Raises RuntimeError after a run that ended with an error, Diverged
        where it is not finite, Mismatch where hyperparameters in the optimizers' states have drifted apart.
        """
        loop = self.loop
        with self.agreement.call(self.worker.calling or "consensus()"), self.model.flat():
            if not loop.over and not loop.program.one_sided():
                loop.between_steps("consensus()")
                self._check_hyperparameters("consensus()")
            return self.layout.tree(self.layout.read(loop.consensus()))

    @contextmanager
    def _held(self) -> Iterator[Any]:
        yield self.consensus()

    def once(
        self, action: Callable[..., Answer], *arguments: Any, everywhere: bool = False, **keywords: Any
    ) -> Answer | None:
        """Return `action(consensus, *arguments, **keywords)` of rank 0; None on other ranks.

        It is for what is evaluated or saved once. Where the strategy's consensus is collective, all workers call
        it at one step. everywhere: return rank 0's answer (pickled on the way) on all workers, which wait for it,
        and raise on all where it fails.
        """
        if everywhere:
            return self._once_everywhere(self._held, lambda params: action(params, *arguments, **keywords))
        if self.rank != 0 and self.loop.program.one_sided():
            return None
        with self.agreement.call("once()"):
            params = self.consensus()
            return action(params, *arguments, **keywords) if self.rank == 0 else None

    def _check_hyperparameters(self, what: str) -> None:
        """Raise Mismatch where what `optax.inject_hyperparams` keeps, or what shard() deals, differs."""
        found: dict[str, Any] = dict(sorted(hyperparameters(self.model.state).items())) if self.size > 1 else {}
        for number, each in enumerate(self.orders if self.loop.program.stays else ()):
            found[f"the order of sampler {number}"] = each.source
        if not self.agreement.meet(what, repr(found)):
            raise Mismatch(f"the workers' hyperparameters differ in {what}: worker {self.rank} has {found}")

    # --- checkpoints -------------------------------------------------------------------------------------

    def save(
        self, folder: str | os.PathLike[str], note: Any = None, keep: int = KEEP, *, also: Any = None
    ) -> None:
        """Write a checkpoint that `restore` goes on from: parameters, optimizer, strategy, counters.

        Every worker calls it, at one step, inside `with trainer:`. Each writes a file, then rank 0 the manifest,
        so that a job that dies leaves the last complete one; `keep` of them stay. `note` is what else your loop
        must know, as JSON, such as {"epoch": 3}; `also` any pytree of arrays and numbers, each worker's own, such
        as batch statistics or keys of random numbers. The states of numpy's and Python's generators are kept too.
        Raises on all workers, which may go on, and leaves the checkpoint before: CheckpointError if a disk
        refuses, Diverged if numbers are not finite, TypeError for what cannot be written; ValueError if the folder
        holds another run's.
        """
        self._require_own("save()")
        self.loop.between_steps("save()")
        with self.agreement.call("save()"), self.model.flat():
            self._check_hyperparameters("save()")
            self.checkpoints.save(folder, note, keep, also)

    def restore(self, folder: str | os.PathLike[str], *, also: Any = None) -> tuple[Any, Any]:
        """Go on from the newest whole checkpoint in the folder; return its note, and the `also` that was saved.

        `also` is a pytree like it, which comes back as it is, with None as note, where there is no checkpoint:

            note, key = trainer.restore("folder", also=key)

        As many workers as wrote it go on bit for bit. With another number all begin at the saved consensus, with
        the mean of the optimizer's arrays and the note of worker 0, and a line on standard error says so. Raises
        CheckpointError, on all, where none is whole, another run wrote it, or another job writes there.
        """
        self._require_own("restore()")
        self.loop.between_steps("restore()")
        self.beside.found = False
        with self.agreement.call("restore()"), self.model.flat():
            note = self.checkpoints.restore(folder, also)
        return note, self.beside.loaded if self.beside.found else also

    # --- the end -----------------------------------------------------------------------------------------

    def close(self, error: BaseException | None = None) -> None:
        """End this worker's data: it takes part in the others' rounds until all have ended.

        With an error it ends at once, and the others are told. `params` and `consensus()` can be read afterwards.
        """
        if self.exit_handler:
            self.exit_handler.close()
        self.checkpoints.close()
        self.stop_at.close()
        self.model.feed.closed = True
        if isinstance(error, SystemExit) and self.size > 1:
            end_with(error.code)
            error = SystemExit(error.code)
        with self.model.flat() if error is None else nullcontext():
            self.loop.leave(error)
