"""One worker of a grid that trains a split model: its part's gradient between exchanges, the mean, the update."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from loosestep.foundation import buffers
from loosestep.lowering.requests import RollCall
from loosestep.optimizers.schedules import at
from loosestep.requests import AllGather, AllReduce, Broadcast, Buffer, Gradient, Request, Update
from loosestep.requests.worker import Worker
from loosestep.runtime.numpy_model import Batches, Feed, NumpyModel, kind, samples_in

if TYPE_CHECKING:
    from loosestep.optimizers.base import Optimizer
    from loosestep.requests import Shared

Array = Any  # float32 or float64, of any shape
Exchanges = Generator[Array, "list[Array]", Any]
SplitGradient = Callable[[Array, Any, int], Exchanges]
GRADIENT, UPDATE = Gradient(), Update()


class Counter(Protocol):
    """Counts what a worker has sent."""

    @property
    def bytes(self) -> int:
        """The number of bytes sent so far."""


@dataclass(frozen=True)
class Job:
    """What all workers are to do."""

    gradient: SplitGradient
    parts: list[Array]
    batches: Batches
    optimizer: Optimizer
    steps: int | None
    seed: int


class GridWorker:
    """One worker of the grid: its part of a replica, and its step as requests.

    summed: at the end, of each step the losses' sum, of how many, and the samples, over all workers.
    parts: at the end, the parameters of every column. told: of each worker, when its last step was over, and what
        it has sent.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        job: Job,
        meter: Counter,
        share: Callable[[str, Buffer], Shared],
        now: Callable[[], float],
    ) -> None:
        self.job, self.columns = job, len(job.parts)
        self.row, self.column = divmod(rank, self.columns)
        self.rows = size // self.columns
        self.in_row = tuple(range(rank - self.column, rank - self.column + self.columns))
        self.in_column = tuple(range(self.column, size, self.columns))
        self.meter, self.now = meter, now
        params = buffers.copy_of(job.parts[self.column])
        moments = job.optimizer.init(params)
        self.worker = Worker(rank, size, params, share, moments)
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
        self.told: Array = np.zeros((0, 3))

    def whole_step(self, x: Array, batch: Any) -> Any:
        """Never compute a gradient at once: it has exchanges in it."""
        raise NotImplementedError("a split model's gradient is computed between its exchanges")

    # --- requests ----------------------------------------------------------------------------------------

    def script(self) -> Iterator[Request]:
        """Yield all requests of this worker."""
        while self.job.steps is None or self.worker.clock < self.job.steps:
            call = RollCall(self.worker.clock + 1, not self.model.feed.ended())
            yield call
            if not call.answer[0]:
                break
            yield from self.step()
        seconds = self.now()
        self.worker.unmetered = True
        yield from self.gather(seconds)

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

    def gather(self, seconds: float) -> Iterator[Request]:
        """Bring every part, the losses, and what each worker has spent and sent, to all workers."""
        for column, part in enumerate(self.job.parts):
            whole = buffers.copy_of(self.worker.params if column == self.column else part)
            yield Broadcast(whole, root=column)
            self.parts.append(whole.reshape(part.shape))
        summed = buffers.zeros(3 * len(self.counts), np.float64)
        summed[:] = np.ravel(self.counts)
        if self.counts:
            yield AllReduce(summed, op="sum", group=tuple(range(self.worker.size)))  # one order, on any hosts
        self.summed = summed.reshape(-1, 3)
        mine, every = buffers.zeros(3, np.float64), buffers.zeros(3 * self.worker.size, np.float64)
        mine[:] = seconds, *self.sent
        yield AllGather(mine, every)
        self.told = every.reshape(-1, 3)

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
