"""`run_split`: trains a model that is split over the columns of a grid of workers, with a replica in each row."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np

from loosestep.foundation import buffers, checks
from loosestep.lowering.lowering import Lowering
from loosestep.lowering.requests import RollCall
from loosestep.optimizers.base import Optimizer
from loosestep.optimizers.schedules import at
from loosestep.optimizers.sgd import SGD
from loosestep.requests import AllGather, AllReduce, Broadcast, Buffer, Gradient, Request, Update
from loosestep.requests.worker import Worker
from loosestep.runtime.arguments import check_start
from loosestep.runtime.numpy_model import Batches, Feed, NumpyModel, kind, samples_in
from loosestep.transports.base import Session, Task, Transport
from loosestep.transports.launched import joined
from loosestep.transports.matching import check_facts, stable_repr
from loosestep.transports.metered import Metered
from loosestep.transports.serial import Serial

Array = Any  # float32 or float64, of any shape
Exchanges = Generator[Array, "list[Array]", Any]
SplitGradient = Callable[[Array, Any, int], Exchanges]
GRADIENT, UPDATE = Gradient(), Update()


@dataclass(frozen=True)
class SplitResult:
    """What `run_split` gives, the same in every process.

    parts: the trained parameters of each column, with the shapes that they began with.
    losses: of each step the mean loss over all samples; nan where the gradient gives none.
    steps, samples: of the run; samples those of all rows.
    seconds: of the slowest worker of this process; simulated where `virtual`.
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
    batches: Batches,
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


@dataclass(frozen=True)
class Job:
    """What all workers are to do."""

    gradient: SplitGradient
    parts: list[Array]
    batches: Batches
    optimizer: Optimizer
    steps: int | None
    seed: int

    def facts(self) -> dict[str, Any]:
        """Return what must be the same in every process."""
        return {
            "parts": [f"{part.size} {part.dtype}, checksum {crc32(part.tobytes())}" for part in self.parts],
            "optimizer": stable_repr(self.optimizer),
            "steps": self.steps,
            "seed": self.seed,
        }


def _carried_out(on: Transport, job: Job) -> SplitResult:
    """Return what one of the workers of this process has gathered."""
    metered = on if isinstance(on, Metered) else Metered(on)
    session = metered.open(job.seed)
    try:
        check_facts(session.all_gather_object("run", job.facts)())
        workers = [GridWorker(rank, on.size, session, job) for rank in session.ranks]
        refuse_no_data(session, workers)
        session.run([worker.task(session) for worker in workers])
        seconds = max(map(session.now, session.ranks))
    except BaseException as error:
        session.leave(error)
        raise
    session.leave(None)
    return workers[0].result(seconds, on.virtual)


def refuse_no_data(session: Session, workers: Sequence[GridWorker]) -> None:
    ended = all(worker.model.feed.ended() for worker in workers)
    if all(session.all_gather_object("no data", lambda: ended)()):
        raise ValueError("the data is empty: no row got a single batch")


class GridWorker:
    """One worker of the grid: its part of a replica, and its step as requests."""

    def __init__(self, rank: int, size: int, session: Any, job: Job) -> None:
        self.job, self.columns = job, len(job.parts)
        self.row, self.column = divmod(rank, self.columns)
        self.rows = size // self.columns
        self.in_row = tuple(range(rank - self.column, rank - self.column + self.columns))
        self.in_column = tuple(range(self.column, size, self.columns))
        self.meter = session.meters[rank]
        params = buffers.copy_of(job.parts[self.column])
        moments = job.optimizer.init(params)
        self.worker = Worker(rank, size, params, lambda name, like: session.share(rank, name, like), moments)
        self.worker.rate_at = lambda step: at(job.optimizer.rate, step)
        feed = Feed(job.batches, self.row, self.rows)
        shape = job.parts[self.column].shape
        self.model = NumpyModel(self.worker, self.whole_step, feed, job.optimizer, shape)
        self.running: Exchanges | None = None  # the user's code, up to its next exchange
        self.given: list[Array] | None = None  # what that exchange has brought
        self.yielded: Array = None
        self.exchanges = 0  # in this step
        self.sent = [0, 0]  # bytes: for gradients, for exchanges
        self.counts: list[tuple[float, int, int]] = []  # of each step: the sum of losses, of how many, samples
        self.summed: Array = np.zeros((0, 3))
        self.parts: list[Buffer] = []
        self.all_sent: Array = np.zeros((0, 2))

    def whole_step(self, x: Array, batch: Any) -> Any:
        """Never compute a gradient at once: it has exchanges in it."""
        raise NotImplementedError("a split model's gradient is computed between its exchanges")

    def task(self, session: Session) -> Task:
        native = session.native | {Gradient, Update}
        lowering = Lowering(native, self.worker, session.unpriced, grouped=session.grouped, hosts=session.hosts)
        return Task(self.worker, session.wrap(self.worker, lowering.lower(self.script())), self.compute)

    # --- requests ----------------------------------------------------------------------------------------

    def script(self) -> Iterator[Request]:
        """Yield all requests of this worker."""
        while self.job.steps is None or self.worker.clock < self.job.steps:
            call = RollCall(self.worker.clock + 1, not self.model.feed.ended())
            yield call
            if not call.answer[0]:
                break
            yield from self.step()
        self.worker.unmetered = True
        yield from self.gather()

    def step(self) -> Iterator[Request]:
        """Yield the requests of one step: computing and exchanges in turn, the mean, the update."""
        self.exchanges = 0
        yield GRADIENT
        while self.running is not None:
            yield from self.exchange()
            yield GRADIENT
        if self.rows > 1:
            before = self.meter.bytes
            yield AllReduce(self.worker.grad, op="mean", weight=self.worker.samples, group=self.in_column)
            self.sent[0] += self.meter.bytes - before
        yield UPDATE

    def exchange(self) -> Iterator[Request]:
        """Give the row what the user's code has yielded, and get what the others have."""
        array, number = self.yielded, self.exchanges
        self.exchanges += 1
        piece = self.worker.workspace(("piece", number), array.size, array.dtype)
        every = self.worker.workspace(("pieces", number), array.size * self.columns, array.dtype)
        piece[:] = array.reshape(-1)
        if self.columns > 1:
            before = self.meter.bytes
            yield AllGather(piece, every, group=self.in_row)
            self.sent[1] += self.meter.bytes - before
        else:
            every[:] = piece
        self.given = list(every.reshape(self.columns, *array.shape))

    def gather(self) -> Iterator[Request]:
        """Bring every part, the losses, and what each worker has sent, to all workers."""
        for column, part in enumerate(self.job.parts):
            mine = self.worker.params if column == self.column else part
            whole = buffers.copy_of(mine)
            yield Broadcast(whole, root=column)
            self.parts.append(whole.reshape(part.shape))
        summed = buffers.zeros(3 * len(self.counts), np.float64)
        summed[:] = np.ravel(self.counts)
        if self.counts:
            yield AllReduce(summed, op="sum", group=tuple(range(self.worker.size)))  # one order, on any hosts
        self.summed = summed.reshape(-1, 3)
        sent, every = buffers.zeros(2, np.float64), buffers.zeros(2 * self.worker.size, np.float64)
        sent[:] = self.sent
        yield AllGather(sent, every)
        self.all_sent = every.reshape(-1, 2)

    # --- computing ---------------------------------------------------------------------------------------

    def compute(self, request: Request) -> int:
        """Perform what a model performs; return how many gradient steps that began."""
        if isinstance(request, Update):
            return self.model.update(request)
        if self.running is not None:
            self.advance()
            return 0
        return self.begin()

    def begin(self) -> int:
        """Begin the user's code on the next batch; without one the gradient is zero, from no samples."""
        worker, model = self.worker, self.model
        worker.clock += 1
        worker.round, worker.samples = worker.clock, 0
        if model.feed.ended():
            self.counts.append((0.0, 0, 0))
            worker.grad.fill(0)
            return 0
        batch = model.feed.take()
        worker.samples = samples_in(batch)
        self.counts.append((0.0, 0, worker.samples))
        running = self.job.gradient(model.readable, batch, self.column)
        if not isinstance(running, Generator):
            raise TypeError(
                f"gradient must be a generator, which yields what other parts need, got {kind(running)}"
            )
        self.running, self.given = running, None
        self.advance()
        return 1

    def advance(self) -> None:
        """Let the user's code run to its next exchange, or to its end."""
        assert self.running is not None
        try:
            found = self.running.send(self.given)  # type: ignore[arg-type]
        except StopIteration as end:
            self.running = None
            self.finish(end.value)
            return
        if not isinstance(found, np.ndarray) or found.dtype not in (np.float32, np.float64) or not found.size:
            got = f"{kind(found)} of {found.dtype}" if isinstance(found, np.ndarray) else kind(found)
            raise TypeError(
                f"exchange {self.exchanges + 1} of part {self.column} must yield a float32 or float64 array, "
                f"got {got}"
            )
        self.yielded = found

    def finish(self, answer: Any) -> None:
        """Take the gradient, and the loss if there is one."""
        count = self.worker.samples
        if isinstance(answer, tuple):
            loss, answer = answer
            self.model.note_loss(float(loss), count)
            self.counts[-1] = float(loss) * count, count, count
        self.model.keep(answer)

    # --- the end -----------------------------------------------------------------------------------------

    def result(self, seconds: float, virtual: bool) -> SplitResult:
        with np.errstate(invalid="ignore"):
            losses = self.summed[:, 0] / self.summed[:, 1]
        gradient_bytes, exchange_bytes = (tuple(map(int, sent)) for sent in self.all_sent.T)
        return SplitResult(
            tuple(self.parts),
            losses,
            self.worker.clock,
            int(self.summed[:, 2].sum()) // self.columns,
            seconds,
            virtual,
            gradient_bytes,
            exchange_bytes,
        )
