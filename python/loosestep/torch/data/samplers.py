"""Samplers that divide a data set among workers, and know where each stands in it."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import DataLoader, IterableDataset, Sampler, get_worker_info

from loosestep.data.global_batch import cut, order_of, part_of
from loosestep.foundation import checks
from loosestep.torch.data.dealt import Dealt
from loosestep.torch.data.resumable import Resumable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from loosestep.requests.worker import Worker
    from loosestep.torch.gradients.step_model import TorchModel

    Wait = Callable[[], object]


def rows_of(data: Any, size: int) -> int:
    """Return how many rows there are. Raises TypeError or ValueError for what `shard` cannot divide."""
    if isinstance(data, (DataLoader, Sampler)):
        kind = type(data).__name__
        hint = "its .dataset or its .sampler" if isinstance(data, DataLoader) else "what it draws from"
        raise TypeError(
            f"shard() deals rows, and got a {kind}: give it {hint}, or a number of rows, and what it returns to a "
            "new DataLoader as batch_sampler"
        )
    if not hasattr(data, "__len__") and not hasattr(data, "__index__"):
        raise TypeError(
            "shard() takes a data set with len(), a number of rows, or an IterableDataset, "
            f"got {type(data).__name__}"
        )
    rows = len(data) if hasattr(data, "__len__") else checks.integer("data", data)
    if rows < size:
        raise ValueError(f"data must hold at least a row for each of {size} workers, got {rows}")
    return rows


def shard(data: Any, batch_size: int, seed: int, shuffle: bool, worker: Worker, accumulate: int) -> Any:
    """Return a batch sampler of a data set, a length or a sampler; of an IterableDataset, one of own items."""
    if isinstance(data, IterableDataset):
        return (CountedStride if hasattr(data, "__len__") else Stride)(data, worker.rank, worker.size)
    if isinstance(data, Sampler):
        if not shuffle:
            raise TypeError(f"a {type(data).__name__} has an order of its own: leave out shuffle=False")
        return Dealt(data, batch_size, checks.integer("seed", seed, 0), worker, accumulate)
    rows = rows_of(data, worker.size)
    batch_size, seed = checks.integer("batch_size", batch_size), checks.integer("seed", seed, 0)
    return Shard(rows, batch_size, seed, shuffle, worker, accumulate)


def shared_out(data: Any, batch_size: int, seed: int, shuffle: bool, model: TorchModel, ready: Wait) -> SharedOut:
    """Return the same where the strategy decides how many rows of a step each worker gets."""
    if isinstance(data, IterableDataset) or model.accumulate > 1:
        what = "an IterableDataset" if isinstance(data, IterableDataset) else f"accumulate={model.accumulate}"
        raise TypeError(
            f"batches whose sizes follow speeds are dealt from rows that are known, one batch a step: got {what}"
        )
    rows = rows_of(data, model.worker.size)
    batch_size, seed = checks.integer("batch_size", batch_size), checks.integer("seed", seed, 0)
    return SharedOut(rows, batch_size * model.worker.size, seed, shuffle, model, ready)


class Shard(Resumable):
    """Batches of row numbers. In an epoch a row goes to one worker, and every worker makes as many steps.

    Orders are keyed by (seed, epoch); the `rows % size` rows at the end of an order are left out of that epoch.
    Every pass begins the next epoch, unless the pass before led to no step, as next(iter(loader)) does.
    `state_dict` counts the rows of the epoch that all workers have used, by the steps that this one made since it
    began, each of `accumulate` batches: a loader that reads ahead does not matter, and any number of workers can
    go on with the rows that are left.
    """

    facts = ("seed", "rows")

    def __init__(self, rows: int, batch: int, seed: int, shuffle: bool, worker: Worker, accumulate: int) -> None:
        super().__init__()
        self.rows, self.batch, self.seed, self.shuffle = rows, batch, seed, shuffle
        self.worker, self.accumulate = worker, accumulate

    def __len__(self) -> int:
        return -(-((self.rows - self.used) // self.worker.size) // self.batch)

    def __iter__(self) -> Iterator[list[int]]:
        self.begin(self.worker.clock)
        own = self.own_rows()
        for start in range(0, len(own), self.batch):
            self.dealt += 1
            yield own[start : start + self.batch].tolist()
        self.whole = True

    def own_rows(self) -> Any:
        """Return this worker's rows in what is left of this epoch, in order."""
        order = np.arange(self.rows)
        if self.shuffle:
            np.random.Generator(np.random.Philox(key=[self.seed, self.epoch])).shuffle(order)
        size, left = self.worker.size, order[self.used :]
        return left[self.worker.rank : len(left) // size * size : size]

    def state_dict(self) -> dict[str, int]:
        """Return where the data stands, in rows."""
        since = 0 if self.began is None else self.worker.clock - self.began
        taken = min(since * self.accumulate, self.dealt)  # several passes may be of one batch
        return self.position(self.used + taken * self.batch * self.worker.size, over=taken >= len(self))


class SharedOut(Resumable):
    """Batches whose sizes follow `worker.fractions`: in an epoch every row is in one step, which all share out.

    The size of a batch is known when the step before is made, so nothing may be read ahead: a loader with
    `num_workers=0`. The rows of a step, and the position, are those of all workers together, whatever the shares.
    """

    facts = ("seed", "rows", "batch")

    def __init__(self, rows: int, batch: int, seed: int, shuffle: bool, model: TorchModel, ready: Wait) -> None:
        super().__init__()
        self.rows, self.batch, self.seed, self.shuffle = rows, batch, seed, shuffle
        self.model, self.worker, self.ready = model, model.worker, ready

    def __len__(self) -> int:
        return len(cut(np.arange(self.rows), self.batch, self.worker.size)) - self.used

    def __iter__(self) -> Iterator[list[int]]:
        self.begin(self.model.steps)
        order = order_of(self.rows, self.seed, self.epoch) if self.shuffle else np.arange(self.rows)
        for step, rows in enumerate(cut(order, self.batch, self.worker.size)[self.used :]):
            yield self.own(step, rows)
        self.whole = True

    def own(self, step: int, rows: Any) -> list[int]:
        """Return this worker's rows of a step that it is about to make."""
        self.ready()
        if self.began is None or self.model.steps != self.began + step:
            raise RuntimeError(
                "a batch was asked for before the step on the last one, and its size is not known yet: "
                "use a DataLoader with num_workers=0, and step() for every batch"
            )
        mine = part_of(rows, self.worker.rank, self.worker.size, self.worker.fractions)
        self.model.rows = len(mine)
        return [int(row) for row in mine]

    def state_dict(self) -> dict[str, int]:
        """Return where the data stands, in steps."""
        since = 0 if self.began is None else self.model.steps - self.began
        return self.position(self.used + since, over=since >= len(self))


class Stride(IterableDataset[Any]):
    """Every n-th item of a stream, from this worker's on; the last, incomplete stride is left out.

    A loader's processes share the items of their worker. Its position is not known: a resumed run begins the
    stream again.
    """

    def __init__(self, data: Any, rank: int, size: int) -> None:
        self.data, self.rank, self.size = data, rank, size

    def set_epoch(self, epoch: int) -> None:
        """Tell the stream, if it wants to know."""
        if hasattr(self.data, "set_epoch"):
            self.data.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        process, processes = (0, 1) if info is None else (info.id, info.num_workers)
        items, mine = iter(self.data), self.rank * processes + process
        while len(stride := list(islice(items, self.size * processes))) == self.size * processes:
            yield stride[mine]


class CountedStride(Stride):
    """One of a stream that knows its length; the processes of a loader may leave out a few items more."""

    def __len__(self) -> int:
        return len(self.data) // self.size
