"""Samplers that divide a data set among workers, and know where each stands in it."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
from torch.utils.data import DataLoader, IterableDataset, Sampler, Subset, get_worker_info

from loosestep.data import dealt_rows
from loosestep.foundation import checks
from loosestep.torch.data.dealt import Dealt

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
    return dealt_rows.count_of(data, size)


def subset_of(data: Any) -> str:
    """Return a checksum, in words, of the row numbers of a Subset, such as random_split() draws; else ""."""
    checksum, told = 0, ""
    while isinstance(data, Subset):
        checksum = crc32(np.asarray(data.indices).astype(np.int64).tobytes(), checksum)
        data, told = data.dataset, f" (a Subset with indices {checksum:08x})"
    return told


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
    dealt = Shard(rows, batch_size, seed, shuffle, worker, accumulate)
    dealt.subset = subset_of(data)
    return dealt


def shared_out(data: Any, batch_size: int, seed: int, shuffle: bool, model: TorchModel, ready: Wait) -> SharedOut:
    """Return the same where the strategy decides how many rows of a step each worker gets."""
    if isinstance(data, IterableDataset) or model.accumulate > 1:
        what = "an IterableDataset" if isinstance(data, IterableDataset) else f"accumulate={model.accumulate}"
        raise TypeError(
            f"batches whose sizes follow speeds are dealt from rows that are known, one batch a step: got {what}"
        )
    rows = rows_of(data, model.worker.size)
    batch_size, seed = checks.integer("batch_size", batch_size), checks.integer("seed", seed, 0)
    dealt = SharedOut(rows, batch_size * model.worker.size, seed, shuffle, model, ready)
    dealt.subset = subset_of(data)
    return dealt


class Shard(dealt_rows.Shard, Sampler[list[int]]):
    """The same as a sampler of torch's."""

    def __iter__(self) -> Iterator[list[int]]:
        return (rows.tolist() for rows in self.batches())


class SharedOut(dealt_rows.SharedOut, Sampler[list[int]]):
    """The same as a sampler of torch's."""

    def __iter__(self) -> Iterator[list[int]]:
        return (rows.tolist() for rows in self.batches())


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
