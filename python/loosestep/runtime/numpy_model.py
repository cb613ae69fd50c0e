"""Gradients from a Python function on numpy arrays, for the library's own loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from loosestep import ops
from loosestep.data.row_counts import rows_in
from loosestep.foundation.errors import Diverged
from loosestep.requests import Gradient, Ready, Request, Update
from loosestep.requests.row_gradients import Rows

if TYPE_CHECKING:
    from loosestep.optimizers import Optimizer
    from loosestep.requests import Buffer
    from loosestep.requests.worker import Worker
    from loosestep.runtime.sampling.samples import Samples

Batches = Callable[[int, int], Iterator[Any]]
GradientFunction = Callable[[Any, Any], Any]


def samples_in(batch: Any) -> int:
    """Return how many samples a batch holds: rows of its first part, or 1; of a list of examples, its length.

    >>> samples_in((np.zeros((8, 3)), np.zeros(8))), samples_in({"x": np.zeros((8, 3))}), samples_in(3.5)
    (8, 8, 1)
    >>> samples_in([(np.zeros(3), 1), (np.zeros(3), 0)])
    2
    """
    if isinstance(batch, list) and batch and isinstance(batch[0], tuple | Mapping | str | bytes):
        return len(batch)
    first = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    count = rows_in(first)
    if count is None:
        return len(batch) if isinstance(batch, list) else 1
    return count


def kind(value: Any) -> str:
    """Describe what was returned instead of an array of the right size."""
    if isinstance(value, np.ndarray):
        return f"shape {value.shape}"
    return "None" if value is None else f"a {type(value).__name__}"


class Feed:
    """One worker's batches, read one ahead, so that it is known when the data has ended."""

    def __init__(self, batches: Batches, rank: int, size: int) -> None:
        self.batches, self.rank, self.size = batches, rank, size
        self.taken = 0
        self.source: Iterator[Any] | None = None
        self.ahead: list[Any] = []

    def skip(self, taken: int) -> None:
        """Go to where a checkpoint stood: that many batches were consumed."""
        source = self.open()
        for number in range(taken):
            if next(source, self) is self:
                raise ValueError(
                    f"the batches of worker {self.rank} end after {number}, but the checkpoint had used {taken}"
                )
        self.taken = taken

    def open(self) -> Iterator[Any]:
        """Return the iterator, which is made at first use."""
        if self.source is None:
            self.source = iter(self.batches(self.rank, self.size))
        return self.source

    def ended(self) -> bool:
        """Return whether there is no further batch."""
        if not self.ahead:
            batch = next(self.open(), self)
            if batch is self:
                return True
            self.ahead.append(batch)
        return False

    def take(self, fractions: Any = None) -> Any:
        """Return the next batch; of a global batch, this worker's part."""
        self.taken += 1
        batch = self.ahead.pop()
        if hasattr(batch, "part"):
            return batch.part(self.rank, fractions)
        if fractions is not None:
            raise TypeError(
                f"batches of changing size need batches of all workers together, as data.global_batches makes "
                f"them; worker {self.rank} got {kind(batch)}"
            )
        return batch


class NumpyModel:
    """Performs `Gradient`, `Ready` and `Update` for one worker.

    gradient(x, batch) -> gradient, or (loss, gradient); x is read-only, with the shape and dtype of x0. Where it
    has `for_worker(worker)`, that returns this worker's own, whose numbers may depend on seed, rank and step. A
    worker without data has the gradient zero, from no samples.
    """

    native: ClassVar[frozenset[type[Request]]] = frozenset({Gradient, Ready, Update})

    def __init__(
        self,
        worker: Worker,
        gradient: GradientFunction,
        feed: Feed,
        optimizer: Optimizer,
        shape: tuple[int, ...] | None = None,
        adds: str | None = None,
    ) -> None:
        own = getattr(gradient, "for_worker", None)
        self.gradient: GradientFunction = gradient if own is None else own(worker)
        self.worker, self.feed, self.optimizer = worker, feed, optimizer
        self.rules = ops if adds is None else getattr(ops, adds)
        self.snapshot = worker.params if adds is None else worker.copy_of_params()
        self.readable = self.snapshot.reshape(shape or -1)
        self.readable.flags.writeable = False
        self.losses = (0.0, 0)  # (sum over samples, samples), replaced as one
        self.samples = self.steps = 0
        self.samples_kept: Samples | None = None  # where draws go
        self.handlers: dict[type[Request], Callable[[Any], int]] = {
            Gradient: self.step,
            Ready: self.ready,
            Update: self.update,
        }

    def finite(self) -> bool:
        """Return whether parameters and moments are finite."""
        return all(map(ops.all_finite, (self.worker.params, *self.worker.moments)))

    def ready(self, request: Ready) -> int:
        return self.step(request) if request.bucket.index == 0 else 0

    def step(self, request: Request) -> int:
        worker = self.worker
        if self.samples_kept is not None:
            self.samples_kept.record(worker.rank, worker.clock, worker.params)
        worker.clock += 1
        if self.feed.ended():
            worker.grad.fill(0)
            return 0
        batch = self.feed.take(worker.fractions)
        if self.snapshot is not worker.params:
            ops.load(worker.params, self.snapshot)
        answer = self.gradient(self.readable, batch)
        count = samples_in(batch)
        if isinstance(answer, tuple):
            if len(answer) != 2:
                raise TypeError(
                    "gradient must return a gradient, or (loss, gradient), got a tuple of "
                    f"{len(answer)}: gradients of several tensors are a list"
                )
            loss, answer = answer
            self.note_loss(float(loss), count)
        self.keep(answer)
        worker.samples += count
        self.samples += count
        self.steps += 1
        return 1

    def keep(self, gradient: Buffer | list[Any]) -> None:
        """Copy the gradient to its place."""
        if isinstance(gradient, list) and self.worker.shapes:
            self.keep_tensors(gradient)
            return
        grad = self.worker.grad
        for tensor in self.worker.row_tensors:
            tensor.touched = None
        if not isinstance(gradient, np.ndarray) or gradient.size != grad.size:
            more = ": of several tensors it is a list, for shapes" if isinstance(gradient, (list, Rows)) else ""
            raise ValueError(
                f"gradient must return an array of {grad.size} values like x0, got {kind(gradient)}{more}"
            )
        if gradient.dtype.kind not in "fiu":
            raise TypeError(f"gradient must return real numbers, got {gradient.dtype}")
        np.copyto(grad, gradient.reshape(-1), casting="same_kind")

    def keep_tensors(self, gradients: list[Any]) -> None:
        """Copy the gradient of each tensor to its place."""
        worker = self.worker
        stops = [*worker.edges[1:], worker.grad.size]
        if len(gradients) != len(stops):
            raise ValueError(f"gradient must return one for each of {len(stops)} shapes, got {len(gradients)}")
        by_rows = {(tensor.start, tensor.stop): tensor for tensor in worker.row_tensors}
        for number, (given, start, stop) in enumerate(zip(gradients, worker.edges, stops, strict=True)):
            tensor = by_rows.get((start, stop))
            if isinstance(given, Rows):
                if tensor is None:
                    raise ValueError(f"gradient returned Rows for tensor {number}, which sparse= does not name")
                tensor.take(given, worker.grad)
                continue
            if tensor is not None:
                tensor.touched = None
            if not isinstance(given, np.ndarray) or given.size != stop - start or given.dtype.kind not in "fiu":
                raise ValueError(
                    f"gradient must return {stop - start} real numbers for tensor {number}, got {kind(given)}"
                )
            np.copyto(worker.grad[start:stop], given.reshape(-1), casting="same_kind")

    def note_loss(self, loss: float, count: int) -> None:
        if not isfinite(loss):
            raise Diverged(self.worker.rank, self.worker.clock, loss)
        for owner in (self, self.worker):
            total, samples = owner.losses
            owner.losses = (total + loss * count, samples + count)

    def update(self, request: Update) -> int:
        worker = self.worker
        self.optimizer.update(
            worker.params,
            worker.grad,
            tuple(worker.moments),
            worker.clock - 1,
            worker.count_update(),
            at=self.snapshot,
            rules=self.rules,
            proximal=request.proximal,
            shapes=worker.shapes,
            noise=worker.noise,
        )
        return 0
