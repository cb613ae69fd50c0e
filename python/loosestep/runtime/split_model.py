"""`run_split`: trains a model that is split over the columns of a grid of workers, with a replica in each row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np

from loosestep.foundation import checks
from loosestep.lowering.lowering import Lowering
from loosestep.optimizers.base import Optimizer
from loosestep.optimizers.sgd import SGD
from loosestep.requests import Buffer, Gradient, Shared, Update
from loosestep.runtime.arguments import check_start
from loosestep.runtime.grid_worker import Array, GridWorker, Job, SplitGradient
from loosestep.transports.base import Session, Task, Transport
from loosestep.transports.launched import joined
from loosestep.transports.matching import check_facts, stable_repr
from loosestep.transports.metered import Metered, MeteredSession
from loosestep.transports.serial import Serial


@dataclass(frozen=True)
class SplitResult:
    """What `run_split` gives, the same in every process.

    parts: the trained parameters of each column, with the shapes that they began with.
    losses: of each step the mean loss over all samples; nan where the gradient gives none.
    steps, samples: of the run; samples those of all rows.
    seconds: until the slowest worker's last step was over; simulated where `virtual`.
    gradient_bytes, exchange_bytes: what each worker, in rank order, has sent for the means of gradients, and for
        what the parts of the model gave each other.
    """

    parts: tuple[Array, ...]
    losses: Array
    steps: int
    samples: int
    seconds: float
    virtual: bool
    gradient_bytes: tuple[int, ...]
    exchange_bytes: tuple[int, ...]

    @property
    def loss(self) -> float:
        """The mean loss of the last step."""
        return float(self.losses[-1])


def run_split(
    gradient: SplitGradient,
    parts: Sequence[Array],
    batches: Callable[[int, int], Iterator[Any]],
    *,
    optimizer: Optimizer | None = None,
    steps: int | None = None,
    on: Transport | None = None,
    seed: int = 0,
) -> SplitResult:
    """Train a model that is split into parts, on a grid of workers: x_c <- x_c - eta * mean over rows r of g_rc.

    The workers of a row hold one replica of the model together, a part each; those of a column hold the same part.
    With k parts, worker `rank` is in row rank // k and in column rank % k. In each step a row computes the
    gradient of its batch, its workers exchanging what their parts need of each other; then each part's gradient is
    averaged over its column, weighted by samples, and each worker updates its part. The result is that of the
    whole model on one worker, to rounding, and has the same bits on every transport.

    gradient: (x, batch, column) -> a generator. `x` are the parameters of that column's part, read-only. It yields
        an array for the other parts of its row and gets the list of all parts' arrays, in column order, its own
        included: `halves = yield hidden`. All parts yield equally often, arrays of one shape and dtype (float32 or
        float64). What it gets is valid until it returns. It returns the part's gradient, or (loss, gradient), as
        for `run`; the loss is the row's, the same in all its parts.
    parts: the initial parameters of each column, float32 or float64; two for a model that is split in two.
    batches: (row, rows) -> iterator of that row's batches; every worker of the row calls it and must get the same.
        A row whose batches end stays, with weight 0, until all have ended.
    optimizer: SGD(0.1) by default. What it keeps of a tensor's norm (LARS, LAMB) is of each part by itself.
    steps: of the run (None: until the batches end).
    on: the transport, as for `run`. Its number of workers must be a multiple of the number of parts.
    seed: for whatever is random in the transport.

    In a step of R rows each worker sends 2 (R-1)/R d_c values for the mean of its part's d_c parameters, in
    2 (R-1) messages, and k-1 times each array that it yields. Halves thus send half of what whole replicas send.
    There are no checkpoints and no evaluations.

    Raises ValueError or TypeError for bad input, Diverged where a loss is not finite, and what a transport raises:
    a worker that failed or is late is named, also where the parts of a row exchange different sizes.

    >>> import loosestep as ls, numpy as np
    >>> def gradient(x, batch, column):  # of (a . x + b . y - 6)^2 / 2, with a in one part and b in the other
    ...     mine = batch[:, 2 * column : 2 * column + 2]
    ...     halves = yield mine @ x
    ...     gap = halves[0] + halves[1] - 6.0
    ...     return (gap @ gap) / (2 * len(gap)), mine.T @ gap / len(gap)
    >>> batches = lambda row, rows: iter([np.ones((4, 4))] * 100)
    >>> result = ls.run_split(gradient, [np.zeros(2), np.zeros(2)], batches, on=ls.Threads(4))
    >>> [part.round(3).tolist() for part in result.parts]
    [[1.5, 1.5], [1.5, 1.5]]

    Reference: O. Yadan, K. Adams, Y. Taigman, M. Ranzato, Multi-GPU Training of ConvNets, arXiv:1312.5853, where a
    grid of 2 x 2 GPUs trains a network that is split in two.
    """
    checks.callable_("gradient", gradient, " of (x, batch, column)")
    checks.callable_("batches", batches, " of (row, rows)")
    if steps is not None:
        steps = checks.integer("steps", steps)
    optimizer = optimizer or SGD()
    checks.instance("optimizer", optimizer, Optimizer)
    if optimizer.noisy:
        raise TypeError(
            f"optimizer must not be a sampler: parts of a model would have one noise, got {optimizer!r}"
        )
    on = on or joined() or Serial()
    checks.instance("on", on, Transport)
    given = [check_start(part) for part in parts]
    if not given:
        raise ValueError("parts must hold the parameters of one column at least, got none")
    if on.size % len(given):
        raise ValueError(
            f"a model in {len(given)} parts needs a multiple of {len(given)} workers, and {on!r} has {on.size}"
        )
    return _carried_out(on, Job(gradient, given, batches, optimizer, steps, checks.integer("seed", seed, 0)))


def _carried_out(on: Transport, job: Job) -> SplitResult:
    """Return what one of the workers of this process has gathered."""
    metered = on if isinstance(on, Metered) else Metered(on)
    session = metered.open(job.seed)
    try:
        check_facts(session.all_gather_object("run", lambda: facts(job))())
        workers = [grid_worker(rank, on.size, session, job) for rank in session.ranks]
        refuse_no_data(session, workers)
        session.run([task(session, worker) for worker in workers])
    except BaseException as error:
        session.leave(error)
        raise
    session.leave(None)
    return result(workers[0], on.virtual)


def facts(job: Job) -> dict[str, Any]:
    """Return what must be the same in every process."""
    return {
        "parts": [f"{part.size} {part.dtype}, checksum {crc32(part.tobytes())}" for part in job.parts],
        "optimizer": stable_repr(job.optimizer),
        "steps": job.steps,
        "seed": job.seed,
    }


def grid_worker(rank: int, size: int, session: MeteredSession, job: Job) -> GridWorker:
    """Return a worker with what it needs of the session."""

    def share(name: str, like: Buffer) -> Shared:
        return session.share(rank, name, like)

    return GridWorker(rank, size, job, session.meters[rank], share, lambda: session.now(rank))


def refuse_no_data(session: Session, workers: Sequence[GridWorker]) -> None:
    ended = all(worker.model.feed.ended() for worker in workers)
    if all(session.all_gather_object("no data", lambda: ended)()):
        raise ValueError("the data is empty: no row got a single batch")


def task(session: Session, worker: GridWorker) -> Task:
    """Return a worker's whole run, lowered to what the session and the worker perform."""
    native = session.native | {Gradient, Update}
    one = worker.worker
    lowering = Lowering(native, one, session.unpriced, grouped=session.grouped, hosts=session.hosts)
    return Task(one, session.wrap(one, lowering.lower(worker.script())), worker.compute)


def result(worker: GridWorker, virtual: bool) -> SplitResult:
    """Return what a worker has gathered at the end."""
    with np.errstate(invalid="ignore"):
        losses = worker.summed[:, 0] / worker.summed[:, 1]
    seconds, *sent = worker.told.T
    gradient_bytes, exchange_bytes = (tuple(map(int, each)) for each in sent)
    return SplitResult(
        tuple(worker.parts),
        losses,
        worker.worker.clock,
        int(worker.summed[:, 2].sum()) // worker.columns,
        float(seconds.max()),
        virtual,
        gradient_bytes,
        exchange_bytes,
    )
