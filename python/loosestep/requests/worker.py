"""One worker as a strategy sees it: its rank, its flat buffers, its clock. It communicates nothing by itself."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from copy import copy
from itertools import accumulate, pairwise
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from loosestep import ops
from loosestep.foundation import buffers
from loosestep.foundation.buffers import is_on_device
from loosestep.ops.noise import NoiseStream
from loosestep.requests import Bucket, Buffer, Shared
from loosestep.requests.base import address
from loosestep.requests.row_gradients import RowTensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import DTypeLike, NDArray

    from loosestep.requests.links import Links
    from loosestep.requests.memo import Memo

ONE = np.ones(1)
LEFT = "the end of its loop,"
"""What `Worker.calling` is when a loop of the user's has ended."""


class Worker:
    """A participant that computes gradients.

    `params` and `grad` are flat, aligned, of one dtype, and never move. `moments` are the local optimizer's
    buffers. `clock` counts local gradient steps, `round` rounds, and `samples` the samples whose gradients
    this worker computed since the round began: the weight of its share in an average. `losses` are their sum and
    the number of those samples, where gradients come with losses. `updates` counts those
    of the moments: in `common`, one float64, where all workers of a host share them. `rate()` is the local
    optimizer's learning rate.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        params: Buffer,
        share: Callable[[str, Buffer], Shared],
        moments: Iterable[Buffer] = (),
        common: Buffer | None = None,
    ) -> None:
        self.rank, self.size = rank, size
        self.params, self.moments = params, moments
        self.grad = buffers.like(params)
        self.clock = self.round = self.samples = 0
        self.losses = (0.0, 0)
        self._updates, self._common = 0, common
        self.computing = self.communicating = 0.0  # seconds of this worker's time, real or virtual
        self.fractions: Sequence[float] | None = None  # of the global batch, each worker's; None: alike
        self.shapes: tuple[tuple[int, ...], ...] = ()  # of the tensors in `params`, if known
        self.edges: Sequence[int] = ()  # where tensors begin in the gradient, ascending, if known
        self.row_tensors: Sequence[RowTensor] = ()  # of whose gradients few rows are not zero, ascending
        self.seed = 0  # of the run
        self.rate_at: Callable[[int], float] = lambda step: 1.0  # of the local optimizer, if there is one
        self.variance_at: Callable[[int], float] = lambda step: 0.0  # of the noise that a sampler owes for a step
        self.noise: NoiseStream | None = NoiseStream(0, rank)  # of the local sampler; None: the strategy adds it
        self.inside = False  # a round: it has begun and is not over
        self.density = 1.0  # how many parameters each value stands for: more in a prediction for a large model
        self.links: Links | None = None  # to other hosts, where a transport says how good they are
        self.hosts: tuple[tuple[int, ...], ...] = ()  # the ranks of each, where a transport knows of several
        self.memo: Memo | None = None  # of what workers compute alike, where they take turns in one thread
        self.unmetered = False  # between steps: nothing is metered and no virtual time passes
        self.calling: str | None = None  # what a loop of the user's has called, "" for step(); None in `run`
        self._share = share
        self.free: dict[object, list[list[Buffer]]] = defaultdict(list)  # receive buffers that no collective uses
        self._scratch: dict[object, Buffer] = {}
        self._buckets: dict[tuple[int, int], list[Bucket]] = {}
        self._dense: dict[Bucket, list[Buffer]] = {}

    @property
    def updates(self) -> int:
        """How often the moments were updated, by this worker or by all that share them."""
        if self._common is None:
            return self._updates
        seen = self.scratch("updates", self._common)
        ops.load(self._common, seen)
        return int(seen[0])

    @updates.setter
    def updates(self, count: int) -> None:
        """Set the count while no worker runs, or of this worker's own moments."""
        self._updates = count
        if self._common is not None:
            self._common[0] = count

    def count_update(self) -> int:
        """Count one more update; return how many there are now."""
        if self._common is None:
            self._updates += 1
        else:
            ops.exact.axpy(self._common, ONE, 1.0)
        return self.updates

    def rate(self) -> float:
        """Return the learning rate of the step that comes next.

        In `run` that of its optimizer (with `scale_rate`), in a torch loop that of the optimizer's first parameter
        group, as it is now.

        Raises TypeError where a torch optimizer has none.
        """
        return float(self.rate_at(self.clock))

    @property
    def place(self) -> str:
        """What the user's loop has called, for people; "" in `run`."""
        if self.calling is None:
            return ""
        return f"{self.calling} after step {self.clock}" if self.calling else f"step() {self.clock}"

    def whereabouts(self) -> str:
        """Return where the user's loop is, as the end of a sentence about this worker; "" in `run`."""
        if self.calling == LEFT:
            return f"has left the loop, after step {self.clock}"
        return self.place and f"is in {self.place}"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Record that parameters and gradient consist of tensors of these shapes, one after the other."""
        self.shapes = tuple(shapes)
        self.edges = list(accumulate(map(prod, self.shapes[:-1]), initial=0)) if shapes else ()

    def expect_rows(self, numbers: Iterable[int]) -> None:
        """Record of which tensors few rows of a gradient are not zero, by their numbers in `shapes`."""
        stops = [*self.edges[1:], self.params.size]
        chosen = sorted(set(numbers))
        self.row_tensors = [RowTensor(self.edges[each], stops[each], self.shapes[each]) for each in chosen]

    def padding(self) -> list[slice]:
        """Return what lies between tensors in the flat buffers and belongs to none: it stays 0."""
        if not self.shapes or len(self.shapes) != len(self.edges):
            return []
        stops = [*self.edges[1:], self.params.size]
        ends = [edge + prod(shape) for edge, shape in zip(self.edges, self.shapes, strict=True)]
        return [slice(end, stop) for end, stop in zip(ends, stops, strict=True) if end < stop]

    def sharing(self, share: Callable[[str, Buffer], Shared]) -> Worker:
        """Return a copy of this worker whose shared variables come from another source."""
        other = copy(self)
        other._share = share
        return other

    def shared(self, name: str, like: Buffer) -> Shared:
        """Return the shared variable of that name; the first worker's values initialise it."""
        return self._share(name, like)

    def scratch(self, name: object, like: Buffer) -> Buffer:
        """Return a buffer of the size, dtype and device of `like` whose content need not survive the round."""
        key = (name, like.size, like.dtype, is_on_device(like))
        if key not in self._scratch:
            self._scratch[key] = buffers.like(like)
        return self._scratch[key]

    def workspace(
        self, name: object, count: int, dtype: DTypeLike | None = None, *, on_device: bool = False
    ) -> Buffer:
        """Return memory for `count` values that need not survive the round.

        It is like the parameters, on their device; with a `dtype` it is in main memory.

        on_device: it is on the parameters' device with a `dtype`, too.
        """
        there = (on_device or dtype is None) and is_on_device(self.params)
        key = (name, count, np.dtype(dtype or self.params.dtype), there)
        if key not in self._scratch:
            made = buffers.like(self.params, count, key[2]) if there else buffers.zeros(*key[1:3])
            self._scratch[key] = made
        return self._scratch[key]

    def room(self, name: object, count: int) -> Buffer:
        """Return memory for `count` float64 values that need not survive the round: as many as are wanted now.

        It is part of one buffer, in main memory, which is replaced where it is too short.
        """
        key = ("room", name)
        if key not in self._scratch or self._scratch[key].size < count:
            self._scratch[key] = buffers.zeros(count + count // 4, float)
        return self._scratch[key][:count]

    def fill(self, key: object, given: Buffer, out: Buffer, compute: Callable[[], object]) -> None:
        """Set `out` to what `compute` makes of the values in `given`, which are the same on all workers.

        Workers that take turns in one thread do it once: the others get a copy, which has the same bits.

        key: all that the result depends on besides `given`.
        """
        if self.memo is None or is_on_device(given) or is_on_device(out):
            compute()
        else:
            self.memo.fill(key, given, out, compute)

    def copy_of_params(self) -> Buffer:
        """Return a copy of the parameters that owns its memory: an anchor that is a view would never differ."""
        copy: Buffer = buffers.copy_of(self.params)
        return copy

    def normal(self) -> Buffer:
        """Return standard normal numbers like `params`, by seed and step alone: the same on every worker."""
        out = self.scratch("normal", self.params)
        key = np.random.SeedSequence([self.seed, 0, self.clock, 1])  # a stream that no straggler has
        drawn = self.workspace("normal", out.size, out.dtype) if is_on_device(out) else out
        np.random.Generator(np.random.Philox(key)).standard_normal(dtype=out.dtype, out=drawn)
        if drawn is not out:
            out[:] = drawn
        return out

    def draw(self, out: Buffer, scale: float, stream: int) -> None:
        """Fill a buffer like `params` with scale times the normal numbers of a stream at the step that was made.

        They are those of `ops.normal` at each parameter's place, wherever its tensor lies; padding stays 0.
        """
        where = self.seed, stream, self.clock - 1
        if not self.padding():
            ops.normal(out, scale, *where)
            return
        out.fill(0)
        start = 0
        for edge, count in zip(self.edges, map(prod, self.shapes), strict=True):
            ops.normal(out[edge : edge + count], scale, *where, start)
            start += count

    def sample(self, count: int, number: int) -> NDArray[np.int64]:
        """Return so many places among the parameters, ascending, drawn without replacement: by seed and number
        alone.

        So they are the same on every worker; all of them where `count` is how many parameters there are.
        """
        key = np.random.SeedSequence([self.seed, 0, number, 2])  # a stream that nothing else has
        drawn = np.random.Generator(np.random.Philox(key)).choice(
            self.params.size, count, replace=False, shuffle=False
        )
        drawn.sort()
        return drawn

    def ordered_moments(self) -> Iterator[tuple[int, Buffer]]:
        """Yield the local optimizer's buffers, each with its place among those of the same parameters: Adam's are
        0, the first moment, and 1, the second.
        """
        ordered = getattr(self.moments, "ordered", None)
        return ordered() if ordered else enumerate(self.moments)

    def buckets(self, bucket_bytes: int, first_bytes: int | None = None) -> list[Bucket]:
        """Return the gradient cut into buckets of at most that size, in the order in which backward fills them.

        The first one may be smaller, so that communication begins early. They begin with tensors, where those are
        known and not larger than a bucket.
        """
        sizes = bucket_bytes, min(bucket_bytes, first_bytes or bucket_bytes)
        if sizes not in self._buckets:
            step, first = (max(1, int(size / self.density) // self.grad.itemsize) for size in sizes)
            self._buckets[sizes] = self._cut(step, first)
        return self._buckets[sizes]

    def dense_parts(self, bucket: Bucket) -> list[Buffer]:
        """Return the parts of a bucket that belong to no tensor in `row_tensors`."""
        if not self.row_tensors:
            return [bucket.grad]
        if bucket not in self._dense:
            begin = (address(bucket.grad) - address(self.grad)) // self.grad.itemsize
            end = begin + bucket.grad.size
            cuts = [begin]
            for each in self.row_tensors:
                cuts += [min(max(place, begin), end) for place in (each.start, each.stop)]
            cuts.append(end)
            self._dense[bucket] = [
                self.grad[low:high] for low, high in zip(cuts[::2], cuts[1::2], strict=True) if low < high
            ]
        return self._dense[bucket]

    def fragments(self, count: int) -> list[slice]:
        """Return the parameters cut into `count` parts of nearly equal size, at the edges of tensors nearby."""
        size = self.params.size
        if not 1 <= count <= size:
            raise ValueError(f"fragments must be at most {size}, the number of parameters, got {count}")
        cuts = [0, *(self._near(size * part // count, size / count / 2) for part in range(1, count)), size]
        return [slice(low, high) for low, high in pairwise(cuts)]

    def tensors(self, part: slice) -> list[slice]:
        """Return the slices of the tensors in a part, counted from its beginning; the whole if none are known."""
        inside = [edge for edge in self.edges if part.start < edge < part.stop]
        cuts = [part.start, *inside, part.stop]
        return [slice(low - part.start, high - part.start) for low, high in pairwise(cuts)]

    def _near(self, place: int, reach: float) -> int:
        """Return the beginning of a tensor that is less than `reach` away, or `place` itself."""
        after = bisect_left(self.edges, place)
        best = min(self.edges[max(0, after - 1) : after + 1], key=lambda edge: abs(edge - place), default=place)
        return best if abs(best - place) < reach else place

    def _cut(self, step: int, first: int) -> list[Bucket]:
        whole = self.grad.size
        stops = [whole, self._edge(whole, first)]
        while stops[-1] > 0:
            stops.append(self._edge(stops[-1], step))
        return [
            Bucket(index, len(stops) - 1, self.grad[start:stop], (whole - start) / whole if whole else 1.0)
            for index, (stop, start) in enumerate(pairwise(stops))
        ]

    def _edge(self, stop: int, most: int) -> int:
        """Return the start of a bucket that ends at `stop`: a tensor's, since a cut tensor delays both buckets."""
        least = max(0, stop - most)
        place = bisect_left(self.edges, least)
        return self.edges[place] if place < len(self.edges) and self.edges[place] < stop else least
