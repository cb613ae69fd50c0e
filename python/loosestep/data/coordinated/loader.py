"""Several jobs on one host over one data set: each batch is prepared once an epoch, and every job sees it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from zlib import crc32

from loosestep.data.cache import samples
from loosestep.data.cache.minio import Indexed
from loosestep.data.coordinated.board import Board, Closed, PrepStats
from loosestep.data.global_batch import order_of
from loosestep.data.shared_memory import Named
from loosestep.foundation import checks

Prepare = Callable[[Sequence[list[int]]], Iterable[Any]]
CAPACITY = 256 << 20
PATIENCE = 5.0  # seconds for threads to end


class CoordinatedLoader:
    """Batches that K jobs on one host prepare together, such as the runs of a hyper-parameter search.

    In an epoch every job sees every sample exactly once, in one random order for all, and each of its B batches is
    fetched and prepared once, by one of the jobs, where K loaders would do it K times: B preparations instead of
    K * B. Job b % K prepares batch b; a job that ends, however it ends, or leaves is replaced by those that wait
    for its batches. Prepared batches wait in shared memory, at most `slots` of them, so the slowest job sets the
    pace.

    dataset: anything with `__getitem__` and `__len__`. batch: samples of one; the last of an epoch may be smaller.
    epochs: how many; the loader is iterated once for each.
    job, jobs: this job's number, from 0 on, and how many there are. name: what they have in common.
    prepare: a function of lists of sample numbers, one list for each batch, that returns an iterable of as many
        batches, in that order; by default `[dataset[i] for i in numbers]`. With torch,
        `lambda batches: DataLoader(dataset, batch_sampler=batches, num_workers=4)`. It is called in a thread.
    seed: of the order, keyed by (seed, epoch).
    capacity, slots: bytes of shared memory, and into how many parts, of one batch each, they are divided.
    deadline: seconds that a job may keep the others waiting, be it with a batch or by taking none; they then go on
        without it. It must be longer than what jobs do between two batches, as an evaluation.

    Raises TimeoutError if jobs do not come, LeftOut in a job that the others did not wait for, ValueError where
    jobs differ or a batch is larger than a slot, and what `prepare` raises, in the job whose batch it was.

    Reference: coordinated prep, in J. Mohan, A. Phanishayee, A. Raniwala, V. Chidambaram, Analyzing and Mitigating
    Data Stalls in DNN Training, PVLDB 14(5), 2021, arXiv:2007.06775.

    >>> from loosestep.data import CoordinatedLoader
    >>> with CoordinatedLoader("abcdef", 4, epochs=2, job=0, jobs=1, name="alone", capacity=1 << 16) as loader:
    ...     epochs = ["".join(sorted(letter for batch in loader for letter in batch)) for _ in range(2)]
    >>> epochs, loader.stats().prepared
    (['abcdef', 'abcdef'], 4)
    """

    def __init__(
        self,
        dataset: Indexed,
        batch: int,
        *,
        epochs: int,
        job: int,
        jobs: int,
        name: str,
        prepare: Prepare | None = None,
        seed: int = 0,
        capacity: int = CAPACITY,
        slots: int = 8,
        deadline: float = 600.0,
    ) -> None:
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
            raise TypeError(f"dataset must have __getitem__ and __len__, as a map-style data set, got {dataset!r}")
        self.batch, self.epochs = checks.integer("batch", batch), checks.integer("epochs", epochs, 0)
        checks.integer("job", job, 0, checks.integer("jobs", jobs) - 1)
        checks.integer("slots", slots)
        checks.integer("capacity", capacity, slots)
        checks.integer("seed", seed, 0)
        checks.positive("deadline", deadline)
        if prepare is not None:
            checks.callable_("prepare", prepare, " of lists of numbers")
        self.dataset, self.seed, self.prepare = dataset, seed, prepare or self._samples
        self.length, self.epoch = -(-len(dataset) // batch), 0
        what = crc32(repr((len(dataset), batch, seed)).encode())
        wanted = (jobs, slots, capacity // slots, epochs * self.length, what)
        self.named = Named(f"coordinated/{name}", lambda: Board.make(*wanted))
        self.board = Board(self.named.segment, job, deadline)
        self.board.check(*wanted)
        self.board.attend()
        self.threads: dict[int, threading.Thread] = {}
        self.error: BaseException | None = None

    def __len__(self) -> int:
        """Return the batches of an epoch."""
        return self.length

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches of the next epoch. Raises RuntimeError after the last one."""
        if self.epoch == self.epochs:
            raise RuntimeError(f"all {self.epochs} epochs are over: epochs= says how many there are")
        self.epoch += 1
        first = (self.epoch - 1) * self.length
        return self._batches(first)

    def _batches(self, first: int) -> Iterator[Any]:
        self.board.wait_for_all()
        self.board.skip_to(first)
        for number in range(first, first + self.length):
            self._prepare_shares()
            content = self.board.take(number, lambda number=number: self._look(number))  # type: ignore[misc]
            yield samples.loaded(content)

    def _look(self, number: int) -> None:
        """Raise what ended preparing here; take over a batch that nobody prepares."""
        if self.error is not None:
            raise self.error
        if self.board.take_over(number):
            self._prepare_shares()

    def _prepare_shares(self) -> None:
        """Start a thread for each share that is this job's and has none."""
        for share in self.board.shares():
            if share not in self.threads:
                self.threads[share] = threading.Thread(target=self._prepare, args=(share,), daemon=True)
                self.threads[share].start()

    def _prepare(self, share: int) -> None:
        """Prepare a share, from the first batch on that is not there, and stage its batches."""
        try:
            for epoch in range(self.epochs):
                begin, end = epoch * self.length, (epoch + 1) * self.length
                mine = range(begin + (share - begin) % self.board.count, end, self.board.count)
                numbers = [number for number in mine if not self._is_over(number)]
                if not numbers:
                    continue
                order = order_of(len(self.dataset), self.seed, epoch).tolist()
                starts = [(number - begin) * self.batch for number in numbers]
                prepared = iter(self.prepare([order[start : start + self.batch] for start in starts]))
                for number in numbers:
                    self.board.stage(number, self._dumped(number, prepared))
        except Closed:
            return
        except BaseException as error:  # it is raised where this job takes its batches
            self.error = error

    def _is_over(self, number: int) -> bool:
        return number < self.board.low or self.board.is_staged(number)

    def _dumped(self, number: int, prepared: Iterator[Any]) -> bytes:
        nothing = object()
        batch = next(prepared, nothing)
        if batch is nothing:
            raise ValueError(f"prepare= returned too few batches: there is none for batch {number}")
        return samples.dumped(batch, number, self.dataset, "batch")

    def _samples(self, batches: Sequence[list[int]]) -> Iterable[Any]:
        return ([self.dataset[number] for number in numbers] for numbers in batches)

    def stats(self) -> PrepStats:
        """Return how many batches all jobs together have prepared."""
        return self.board.stats()

    def close(self) -> None:
        """Leave the others. What this job was to prepare is prepared by them."""
        self.board.leave()
        for thread in self.threads.values():
            thread.join(PATIENCE)
        self.named.close()

    def __enter__(self) -> CoordinatedLoader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
