"""Means of differences that a codec rounds; what is lost is kept, and added to the next."""

from __future__ import annotations

from itertools import accumulate, pairwise
from math import prod
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from loosestep.codecs.base import Codec, SummedCodec
from loosestep.foundation import buffers
from loosestep.foundation.buffers import here, is_on_device
from loosestep.requests import AllGather, AllReduce
from loosestep.strategies.base import Cost, State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker

Divisor: TypeAlias = Literal["workers", "senders"]
"""Of the sum for a coordinate: the weight of all workers, or that of those alone that have sent it."""
COMMON = 1 << 20
"""In seeds that all workers draw from: no rank."""


class Part(NamedTuple):
    """Values that are rounded together: where they are, and where their words and carried numbers are."""

    values: slice
    codec: Codec
    words: slice
    carried: slice

    @property
    def size(self) -> int:
        """Return how many values they are."""
        return int(self.values.stop - self.values.start)


def parts_of(worker: Worker, codec: Codec, size: int) -> list[Part]:
    """Return the tensors, where the codec takes their shapes and these are known; else all values as one."""
    known = zip(worker.edges, worker.shapes, strict=True) if len(worker.edges) == len(worker.shapes) else ()
    tensors = [(start, prod(shape), codec.shaped(shape)) for start, shape in known if prod(shape)]
    if size != worker.params.size or all(each == codec for _, _, each in tensors):
        tensors = [(0, size, codec)]
    places = [slice(start, start + count) for start, count, _ in tensors]
    words = [each.words(count) for _, count, each in tensors]
    numbers = [each.carried(count) if isinstance(each, SummedCodec) else 0 for _, count, each in tensors]
    codecs = [each for _, _, each in tensors]
    return [Part(*each) for each in zip(places, codecs, spans(words, 1), spans(numbers), strict=True)]


def clear_padding(worker: Worker, *flat: Buffer) -> None:
    """Set what belongs to no tensor to 0 again: a format may have made something of it."""
    for gap in worker.padding():
        for each in flat:
            each[gap] = 0


def spans(lengths: Sequence[int], start: int = 0) -> list[slice]:
    """Return slices of these lengths, one after the other."""
    return [slice(*ends) for ends in pairwise(accumulate(lengths, initial=start))]


def memory(worker: Worker, codec: Codec | None) -> State:
    """Return what is kept from mean to mean: the residual, and the numbers that the codec carries."""
    size = worker.params.size
    parts = parts_of(worker, codec.contracted(size)[0], size) if codec else []
    count = parts[-1].carried.stop if parts else 0
    return State(residual=buffers.like(worker.params), carried=buffers.zeros(count, float))


def mean(
    worker: Worker,
    kept: State,
    codec: Codec,
    out: Buffer,
    weight: float,
    *,
    divisor: Divisor = "workers",
    clip: bool = False,
) -> Iterator[Request]:
    """Yield what brings the weighted mean of the rounded residuals of all workers into `out`.

    Then the residual is what rounding has lost of this worker's. One of weight 0 adds nothing, and keeps its own.

    divisor: of each coordinate: the weight of all 'workers', or that of its 'senders' alone.
    clip: shorten each message to the median of all messages' norms, where it is longer.
    """
    codec, factor = codec.contracted(out.size)
    # On a device it stays there where the codec can; senders are counted, and messages shortened, in main memory.
    there = is_on_device(out) and codec.on_device and divisor == "workers" and not clip
    staged = is_on_device(kept.residual) and not there
    residual = here(kept.residual) if staged else kept.residual
    total = worker.workspace("mean of messages", out.size, out.dtype) if staged else out
    parts = parts_of(worker, codec, out.size)
    if divisor == "workers" and not clip and isinstance(codec, SummedCodec):
        yield from summed(worker, kept, parts, residual, total, weight)
    else:
        yield from sent(worker, parts, residual, factor, weight)
        come = words_of(worker, parts, total)[1]
        key = parts, factor, divisor, clip
        worker.fill(key, come, total, lambda: received(worker, parts, total, factor, divisor, clip=clip))
    if out.size == worker.params.size:
        clear_padding(worker, residual, total)
    if staged:
        kept.residual[:], out[:] = residual, total


def summed(
    worker: Worker, kept: State, parts: Sequence[Part], residual: Buffer, total: Buffer, weight: float
) -> Iterator[Request]:
    """Yield the means of a codec whose messages add up."""
    seed = (worker.seed, COMMON, worker.round)
    for number, (place, codec, _, carried) in enumerate(parts):
        assert isinstance(codec, SummedCodec)
        mine = residual[place] if weight else residual[place].copy()
        for part in codec.mean(mine, total[place], kept.carried[carried], (*seed, number)):
            yield AllReduce(part, op="mean", weight=weight)


def words_of(worker: Worker, parts: Sequence[Part], like: Buffer) -> tuple[Buffer, Buffer]:
    """Return room for a message, its first word the weight, and for those of all workers; where values lie."""
    count, there = parts[-1].words.stop, is_on_device(like)
    mine = worker.workspace("mine", count, float, on_device=there)
    return mine, worker.workspace("all", count * worker.size, float, on_device=there)


def sent(
    worker: Worker, parts: Sequence[Part], residual: Buffer, factor: float, weight: float
) -> Iterator[Request]:
    """Encode the residual, take from it what will be decoded, and gather the messages of all workers."""
    mine, come = words_of(worker, parts, residual)
    mine[:1] = weight
    for number, part in enumerate(parts):
        values, words = residual[part.values], mine[part.words]
        part.codec.encode(values, words, (worker.seed, worker.rank, worker.round, number))
        if weight:
            part.codec.add(words, values, -factor, room_for(worker, part, values))
    yield AllGather(mine, come)


def room_for(worker: Worker, part: Part, like: Buffer) -> Buffer:
    """Return room for a decoded part, where the values lie."""
    return worker.workspace("decoded", part.size, like.dtype, on_device=is_on_device(like))


def received(
    worker: Worker,
    parts: Sequence[Part],
    total: Buffer,
    factor: float,
    divisor: Divisor,
    *,
    clip: bool,
) -> None:
    """Set `total` to the mean of all messages, a left fold in the order of ranks, divided once."""
    table = words_of(worker, parts, total)[1].reshape(worker.size, -1)
    sent = here(table[:, 0]).tolist()
    rows = [table[rank] for rank, weight in enumerate(sent) if weight > 0]
    weights = [weight for weight in sent if weight > 0]
    weights = [1.0] * len(rows) if len({*weights}) == 1 else weights
    total.fill(0)
    for part in parts if len(rows) else ():
        out = total[part.values]
        room = room_for(worker, part, out)
        shares = shortened(part, rows, room) if clip else [1.0] * len(rows)
        for row, weight, share in zip(rows, weights, shares, strict=True):
            part.codec.add(row[part.words], out, weight * factor * share, room)
        if divisor == "workers":
            out /= sum(weights)
            continue
        room.fill(0)
        for row, weight in zip(rows, weights, strict=True):
            part.codec.count(row[part.words], room, weight)
        room += room == 0  # nobody has sent anything there
        out /= room


def shortened(part: Part, rows: Sequence[Buffer], room: Buffer) -> list[float]:
    """Return by what to multiply each message, so that none is longer than the median norm."""
    norms = [part.codec.norm(row[part.words], room) for row in rows]
    ordered, half = sorted(norms), len(norms) // 2
    median = (ordered[half] + ordered[~half]) / 2
    return [median / norm if norm > median else 1.0 for norm in norms]


def cost_of_messages(codec: Codec, n: int, d: int) -> Cost:
    """Return what a worker sends where all send their own message of d values to all."""
    return Cost(0, n - 1, 8 * (n - 1) * (1 + codec.contracted(d)[0].words(d)))


def cost(codec: Codec, n: int, d: int) -> Cost:
    """Return what a worker sends for a mean of d values that are rounded together."""
    codec, _ = codec.contracted(d)
    if isinstance(codec, SummedCodec):
        counts = codec.sent(d)
        return Cost(2 * (n - 1) / n * sum(counts), 2 * (n - 1) * len(counts))
    return cost_of_messages(codec, n, d)
