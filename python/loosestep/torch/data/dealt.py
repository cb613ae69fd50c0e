"""A sampler of the user's, whose order is dealt among workers: weighted, of a subset, or of batches."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import torch
from torch.utils.data import BatchSampler, DistributedSampler, Sampler

from loosestep.data.resumable import Resumable
from loosestep.foundation import checks
from loosestep.foundation.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests.worker import Worker

ENDLESS = 100_000_000  # items: to draw an order of more takes minutes and gigabytes; endless samplers claim 10^10


class Dealt(Resumable, Sampler[Any]):
    """Every n-th item of a sampler's order, from this worker's on; the last, incomplete n are left out.

    Items are rows, of which batches are made, or batches of a `BatchSampler`, which stay whole. All workers must
    find one order: while it is drawn, torch's, numpy's and Python's global generators are seeded by (seed, epoch).
    A generator that the sampler has of its own must be alike on all workers; what differs is found when options
    are compared, in `save()` and in a collective consensus.
    """

    facts = ("seed", "rows", "order")

    def __init__(self, sampler: Sampler[Any], batch_size: int, seed: int, worker: Worker, accumulate: int) -> None:
        super().__init__()
        if isinstance(sampler, DistributedSampler):
            raise TypeError("shard() got a DistributedSampler, which divides rows itself: give it the data set")
        if not hasattr(sampler, "__len__") or len(sampler) > ENDLESS:
            length = f"{len(sampler):,} items" if hasattr(sampler, "__len__") else "no len()"
            raise TypeError(
                f"shard() deals the whole order of a sampler: {type(sampler).__name__} has {length}. Give shard() "
                "the data set, or let each worker draw its own rows from this sampler, its generator seeded by "
                "optimizer.rank, without shard()"
            )
        self.whole_batches = isinstance(sampler, BatchSampler)
        self.batch = checks.integer("batch_size", batch_size)
        if self.whole_batches and self.batch != 1:
            raise TypeError(f"a BatchSampler makes batches itself: leave out batch_size, which is {batch_size}")
        self.sampler, self.seed = sampler, seed
        self.worker, self.accumulate = worker, accumulate
        self.order = 0  # a checksum of this epoch's, 0 before it is drawn
        self.expected = 0  # the checksum of a saved one, of which a part was used

    @property
    def in_use(self) -> int:
        """The checksum of the order of which steps were made; 0 where there were none: a look is none."""
        return self.order if self.began is not None and self.worker.clock > self.began else 0

    @property
    def source(self) -> str:
        """The same in words."""
        return f"{self.in_use:08x}"

    @property
    def rows(self) -> int:
        """How many items the sampler has."""
        return len(self.sampler)

    def __len__(self) -> int:
        return -(-((self.rows - self.used) // self.worker.size) // self.batch)

    def __iter__(self) -> Iterator[Any]:
        self.begin(self.worker.clock)
        own = self.own_items()
        for start in range(0, len(own), self.batch):
            self.dealt += 1
            yield own[start] if self.whole_batches else own[start : start + self.batch]
        self.whole = True

    def own_items(self) -> list[Any]:
        """Return this worker's items of what is left of this epoch."""
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(self.epoch)
        with seeded(self.seed, self.epoch):
            order = list(self.sampler)
        self.order = crc32(repr(order).encode())
        if self.expected and self.order != self.expected:
            raise CheckpointError(
                "the sampler draws another order than in the run that was saved, which had used a part of it: "
                "restore its own generator too"
            )
        size, left = self.worker.size, order[self.used :]
        return left[self.worker.rank : len(left) // size * size : size]

    def state_dict(self) -> dict[str, int]:
        """Return where the data stands, in items."""
        since = 0 if self.began is None else self.worker.clock - self.began
        taken = min(since * self.accumulate, self.dealt)
        state = self.position(self.used + taken * self.batch * self.worker.size, over=taken >= len(self))
        return state if state["used"] else {**state, "order": 0}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next pass begin at a saved position."""
        super().load_state_dict({**state, "order": self.order})
        self.expected = state["order"]

    def begin(self, steps: int) -> None:
        before = self.epoch
        super().begin(steps)
        if self.epoch != before:
            self.expected = 0


@contextmanager
def seeded(seed: int, epoch: int) -> Iterator[None]:
    """Let all global generators draw what depends on seed and epoch alone; afterwards they go on as before."""
    key = [int(word) for word in np.random.SeedSequence([seed, epoch]).generate_state(3)]
    of_python, of_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key[0])
        np.random.seed(key[1])
        random.seed(key[2])
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)
