"""Row numbers dealt to the workers of a loop, which know where each stands in an epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from loosestep.data.global_batch import cut, order_of, part_of
from loosestep.data.resumable import Resumable
from loosestep.foundation import checks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from loosestep.requests.worker import Worker


class Steps(Protocol):
    """What makes the steps of a worker's loop."""

    worker: Worker
    steps: int  # that were made
    rows: int | None  # of the next batch


def count_of(data: Any, size: int) -> int:
    """Return how many rows there are. Raises ValueError where some of `size` workers would have none."""
    rows: int = len(data) if hasattr(data, "__len__") else checks.integer("data", data)
    if rows < size:
        raise ValueError(f"data must hold at least a row for each of {size} workers, got {rows}")
    return rows


class DealtRows(Resumable):
    """Rows of a data set, in orders that seed and epoch decide."""

    rows: int
    seed: int
    shuffle: bool
    subset: str = ""  # of which rows of a data set these are numbers, where that is not all

    @property
    def source(self) -> str:
        """What decides the order, in words: all workers must deal the same one."""
        return f"of {self.rows} rows{self.subset} with seed {self.seed} and shuffle={self.shuffle}"


class Shard(DealtRows):
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

    def batches(self) -> Iterator[Any]:
        """Begin a pass, and yield the rows of each batch."""
        self.begin(self.worker.clock)
        own = self.own_rows()
        for start in range(0, len(own), self.batch):
            self.dealt += 1
            yield own[start : start + self.batch]
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


class SharedOut(DealtRows):
    """Batches whose sizes follow `worker.fractions`: in an epoch every row is in one step, which all share out.

    The size of a batch is known when the step before is made, so nothing may be read ahead: a loader with
    `num_workers=0`. The rows of a step, and the position, are those of all workers together, whatever the shares.
    """

    facts = ("seed", "rows", "batch")

    def __init__(
        self, rows: int, batch: int, seed: int, shuffle: bool, model: Steps, ready: Callable[[], object]
    ) -> None:
        super().__init__()
        self.rows, self.batch, self.seed, self.shuffle = rows, batch, seed, shuffle
        self.model, self.worker, self.ready = model, model.worker, ready

    def __len__(self) -> int:
        return len(cut(np.arange(self.rows), self.batch, self.worker.size)) - self.used

    def batches(self) -> Iterator[Any]:
        """Begin a pass, and yield the rows of each batch."""
        self.begin(self.model.steps)
        order = order_of(self.rows, self.seed, self.epoch) if self.shuffle else np.arange(self.rows)
        for step, rows in enumerate(cut(order, self.batch, self.worker.size)[self.used :]):
            yield self.own(step, rows)
        self.whole = True

    def own(self, step: int, rows: Any) -> Any:
        """Return this worker's rows of a step that it is about to make."""
        self.ready()
        if self.began is None or self.model.steps != self.began + step:
            raise RuntimeError(
                "a batch was asked for before the step on the last one, and its size is not known yet: "
                "use a DataLoader with num_workers=0, and step() for every batch"
            )
        mine = part_of(rows, self.worker.rank, self.worker.size, self.worker.fractions)
        self.model.rows = len(mine)
        return mine

    def state_dict(self) -> dict[str, int]:
        """Return where the data stands, in steps."""
        since = 0 if self.began is None else self.model.steps - self.began
        return self.position(self.used + since, over=since >= len(self))
