"""One worker as a strategy sees it: its rank, its flat buffers, its clock. No communication happens here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loosestep import buffers
from loosestep.requests import Bucket, Buffer, Shared

if TYPE_CHECKING:
    from collections.abc import Callable


class Worker:
    """A participant that computes gradients.

    `params` and `grad` are flat, aligned, of one dtype, and never move. `moments` are the local optimizer's
    buffers. `clock` counts local gradient steps, `round` rounds, and `samples` the samples whose gradients
    this worker computed since the round began: the weight of its share in an average.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        params: Buffer,
        share: Callable[[str, Buffer], Shared],
        moments: tuple[Buffer, ...] = (),
    ) -> None:
        self.rank, self.size = rank, size
        self.params, self.moments = params, moments
        self.grad = buffers.like(params)
        self.clock = self.round = self.updates = self.samples = 0
        self.offstage = False  # between steps: nothing is metered and no virtual time passes
        self._share = share
        self._scratch: dict[object, Buffer] = {}
        self._buckets: dict[int, list[Bucket]] = {}

    def shared(self, name: str, like: Buffer) -> Shared:
        """The variable of that name, common to all workers; the first worker's values initialise it."""
        return self._share(name, like)

    def scratch(self, name: object, like: Buffer) -> Buffer:
        """A buffer of the size and dtype of `like` whose content need not survive the round."""
        key = (name, like.size, like.dtype)
        if key not in self._scratch:
            self._scratch[key] = buffers.like(like)
        return self._scratch[key]

    def copy_of_params(self) -> Buffer:
        """A copy that owns its memory (an anchor that were a view would make a silently idle algorithm)."""
        copy: Buffer = buffers.copy_of(self.params)
        return copy

    def buckets(self, bucket_bytes: int) -> list[Bucket]:
        """The gradient cut into buckets of at most that size, in the order in which backward fills them."""
        if bucket_bytes not in self._buckets:
            self._buckets[bucket_bytes] = self._cut(max(1, bucket_bytes // self.grad.itemsize))
        return self._buckets[bucket_bytes]

    def _cut(self, step: int) -> list[Bucket]:
        stops = list(range(self.grad.size, 0, -step)) or [0]
        parts = [self.grad[max(0, stop - step) : stop] for stop in stops]
        return [Bucket(index, len(parts), part) for index, part in enumerate(parts)]
