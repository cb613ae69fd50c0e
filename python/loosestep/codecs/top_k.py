"""The largest values, with their places."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from loosestep import _core, ops
from loosestep.codecs.base import Codec
from loosestep.foundation import buffers, checks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loosestep.requests import Buffer

MOST = 1 << 16
"""Values of a chunk, at most."""


def lost(width: int) -> float:
    """Return the square of what a value may lose, as a share, in so many bits."""
    return {16: 4.0**-8, 32: 4.0**-23, 64: 0.0}[width]


class Largest(Codec):
    """Base of formats that keep the largest values by size; of equal ones the first, so there is one order."""

    def chunk_of(self, count: int) -> tuple[int, int]:
        """Return how long a chunk is, and how many of it are kept."""
        raise NotImplementedError

    @property
    def kept_as(self) -> Codec | int:
        """Return how kept values are sent: by a codec, or in so many bits."""
        raise NotImplementedError

    def kept(self, count: int) -> int:
        """Return how many values are sent: of a last, shorter chunk as large a share as of others, rounded up."""
        chunk, keep = self.chunk_of(count)
        whole, rest = divmod(count, chunk) if chunk else (0, 0)
        return whole * keep + -(-keep * rest // chunk if chunk else 0)

    def value_bits(self, count: int) -> int:
        """Return the bits of all kept values, which come first; those of a codec fill whole words."""
        how, kept = self.kept_as, self.kept(count)
        return 64 * how.words(kept) if isinstance(how, Codec) else how * kept

    def bits(self, count: int) -> int:
        return self.value_bits(count) + self.kept(count) * index_bits(self.chunk_of(count)[0])

    def encode(self, x: Buffer, wire: Buffer, seed: Sequence[int] = ()) -> None:
        values = buffers.zeros(self.kept(x.size), x.dtype)
        if not x.size:
            return
        chunk, keep = self.chunk_of(x.size)
        place = self.value_bits(x.size) // 8
        self.refuse_unless(_core.codecs.select(x, chunk, keep, values, wire, place))
        how = self.kept_as
        if isinstance(how, Codec):
            how.encode(values, wire[: how.words(values.size)], seed)
        else:
            _core.codecs.narrow(values, wire, 0, how)

    def received(self, wire: Buffer, out: Buffer) -> Buffer:
        """Return the kept values of a message for a buffer like `out`."""
        values, how = buffers.zeros(self.kept(out.size), out.dtype), self.kept_as
        if isinstance(how, Codec):
            how.decode(wire, values)
        else:
            _core.codecs.widen(wire, 0, values, how)
        return values

    def decode(self, wire: Buffer, out: Buffer) -> None:
        if out.size:
            place = self.value_bits(out.size) // 8
            _core.codecs.place(self.received(wire, out), wire, place, *self.chunk_of(out.size), out)

    def norm(self, wire: Buffer, room: Buffer) -> float:
        return ops.norm(self.received(wire, room))

    def add(self, wire: Buffer, out: Buffer, weight: float, room: Buffer) -> None:
        self.add_at(wire, self.received(wire, out), out, weight)

    def count(self, wire: Buffer, weights: Buffer, weight: float) -> None:
        ones = buffers.zeros(self.kept(weights.size), weights.dtype)
        ones.fill(1)
        self.add_at(wire, ones, weights, weight)

    def add_at(self, wire: Buffer, values: Buffer, out: Buffer, weight: float) -> None:
        """Add values times `weight` at the places of a message."""
        if out.size:
            place = self.value_bits(out.size) // 8
            _core.codecs.add(values, wire, place, *self.chunk_of(out.size), weight, out)


def index_bits(chunk: int) -> int:
    """Return the bits that tell places of a chunk apart."""
    return max(chunk - 1, 0).bit_length()


@dataclass(frozen=True, repr=False)
class TopK(Largest):
    """The k largest values by size, k = ceil(share d), with their places; all others become 0.

    It contracts: |TopK(x) - x|^2 <= (1 - k/d) |x|^2. Of values of one size the first are kept. Found in two
    passes: by a sample, those that may be among the largest; then the largest of these.

    share: the part of the values that is kept.
    width: bits of a value: 32, 16 (bfloat16) or 64.

    d values take k (width + ceil(log2 d)) bits.

    >>> import numpy as np
    >>> x, codec = np.array([0.1, -3.0, 0.5, 2.0]), TopK(0.5)
    >>> wire, out = np.zeros(codec.words(4)), np.zeros(4)
    >>> codec.encode(x, wire)
    >>> codec.decode(wire, out)
    >>> out.tolist()
    [0.0, -3.0, 0.0, 2.0]

    Reference: S. Stich, J.-B. Cordonnier, M. Jaggi, Sparsified SGD with Memory, arXiv:1809.07599, definition 2.2.
    """

    share: float = 0.01
    width: int = 32

    def __post_init__(self) -> None:
        check_share(self.share)
        checks.one_of("width", self.width, (16, 32, 64))

    @property
    def kept_as(self) -> int:
        return self.width

    def chunk_of(self, count: int) -> tuple[int, int]:
        return count, share_of(self.share, count)

    def error(self, count: int) -> float:
        return max(0.0, 1 - share_of(self.share, count) / max(count, 1)) + lost(self.width)


def check_share(share: float) -> None:
    """Refuse what is no part of a whole."""
    checks.positive("share", share)
    checks.at_most("share", share, 1)


def share_of(share: float, count: int) -> int:
    """Return how many that is of so many values: rounded up, where rounding errors are not taken for more."""
    return min(count, ceil(share * count * (1 - 1e-12)))


@dataclass(frozen=True, repr=False)
class ChunkedTopK(Largest):
    """The `keep` largest of each `chunk` values by size, with their places in the chunk; all others become 0.

    It contracts: |decoded - x|^2 <= (1 - keep/chunk) |x|^2. A last, shorter chunk keeps as large a share, rounded
    up. Chunks are of adjacent values; the release of SparseLoCo cuts matrices into tiles of 64 x 64 instead. With
    `values=Bins()` it is that release's format at its production setting: 0.219 bits for each of d values.

    keep: how many of a chunk are kept.
    chunk: how many values a chunk has, up to 65,536.
    values: how the kept values are rounded, all of them together; None leaves them as they are, in `width` bits.
    width: bits of a value without `values`: 32, 16 (bfloat16) or 64.

    d values, n of which are kept, take n (width + ceil(log2 chunk)) bits; with `values` the words of that codec
    for n values and n ceil(log2 chunk) bits.

    >>> import numpy as np
    >>> codec = ChunkedTopK(keep=1, chunk=4)
    >>> x = np.array([0.1, -3.0, 0.5, 2.0, 0.2, 0.0, 0.3, 0.1])
    >>> wire, out = np.zeros(codec.words(8)), np.zeros(8)
    >>> codec.encode(x, wire)
    >>> codec.decode(wire, out)
    >>> out.round(3).tolist()
    [0.0, -3.0, 0.0, 0.0, 0.0, 0.0, 0.3, 0.0]

    Reference: A. Sarfi et al., Communication Efficient LLM Pre-training with SparseLoCo, arXiv:2508.15706; its
    release (templar, compress.py) for chunks of 4096, 64 kept and indices of 12 bits.
    """

    keep: int = 64
    chunk: int = 4096
    values: Codec | None = None
    width: int = 32

    def __post_init__(self) -> None:
        checks.integer("chunk", self.chunk, 1, MOST)
        checks.integer("keep", self.keep, 1, self.chunk)
        checks.one_of("width", self.width, (16, 32, 64))
        if self.values is not None:
            checks.instance("values", self.values, Codec)

    @property
    def kept_as(self) -> Codec | int:
        return self.width if self.values is None else self.values

    def chunk_of(self, count: int) -> tuple[int, int]:
        return self.chunk, self.keep

    def error(self, count: int) -> float:
        """Return what is left out, and what rounding takes of the rest."""
        kept = self.keep / self.chunk
        how = lost(self.width) if self.values is None else self.values.error(self.kept(count))
        return 1 - kept + kept * how
