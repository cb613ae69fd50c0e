"""Values at random places, which nobody needs to be told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from loosestep import _core
from loosestep.codecs.base import SummedCodec
from loosestep.codecs.top_k import check_share, lost, share_of
from loosestep.foundation import buffers, checks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from loosestep.requests import Buffer


@dataclass(frozen=True, repr=False)
class RandomK(SummedCodec):
    """k values at places that a seed draws, k = ceil(share d), one of each of k stretches; all others become 0.

    A stretch has d/k values, rounded up or down, so that each place is drawn with the probability k/d. It
    contracts: E |RandomK(x) - x|^2 <= (1 - k/d) |x|^2 where k divides d. Workers that draw from one seed add their
    messages.

    share: the part of the values that is kept.
    scaling: 'none' leaves values as they are; 'unbiased' multiplies each by the length of its stretch, so that the
    mean
        over seeds is x, and the error d/k - 1.
    width: bits of a value in a message: 32, 16 (bfloat16) or 64.

    d values take 64 + k width bits as a message, since it tells the seed; a mean of messages, k values of the
    parameters' type.

    >>> import numpy as np
    >>> x, codec = np.arange(1.0, 9.0), RandomK(0.25)
    >>> wire, out = np.zeros(codec.words(8)), np.zeros(8)
    >>> codec.encode(x, wire, seed=(1,))
    >>> codec.decode(wire, out)
    >>> [int((out[:4] != 0).sum()), int((out[4:] != 0).sum())]
    [1, 1]

    Reference: S. Stich, J.-B. Cordonnier, M. Jaggi, Sparsified SGD with Memory, arXiv:1809.07599, definition 2.2,
    where all subsets of k places are alike; one place in each stretch is this library's.
    """

    share: float = 0.01
    scaling: Literal["none", "unbiased"] = "none"
    width: int = 32

    @classmethod
    def example(cls) -> RandomK:
        """Return one that draws every value now and then in a hundred seeds."""
        return cls(share=0.1)

    def __post_init__(self) -> None:
        check_share(self.share)
        checks.one_of("scaling", self.scaling, ("none", "unbiased"))
        checks.one_of("width", self.width, (16, 32, 64))

    @property
    def unbiased(self) -> bool:  # type: ignore[override]
        """Return whether the mean over seeds is x."""
        return self.scaling == "unbiased"

    def contracted(self, count: int) -> tuple[RandomK, float]:
        return replace(self, scaling="none"), 1.0

    def kept(self, count: int) -> int:
        """Return how many values are sent."""
        return share_of(self.share, count)

    def bits(self, count: int) -> int:
        return 64 + self.width * self.kept(count)

    def error(self, count: int) -> float:
        """Return the error of the longest stretch."""
        longest = -(-count // max(self.kept(count), 1))
        more = 2 * longest * lost(self.width) ** 0.5
        return longest - 1 + more if self.unbiased else 1 - 1 / max(longest, 1) + lost(self.width)

    def encode(self, x: Buffer, wire: Buffer, seed: Sequence[int] = ()) -> None:
        self.check_finite(x)
        key = self.key(seed)
        wire[:1].view(np.uint64)[0] = key
        _core.codecs.narrow(self.drawn(x, key), wire, 8, self.width)

    def drawn(self, x: Buffer, key: int) -> Buffer:
        """Return the values at the places that a key draws."""
        values = buffers.zeros(self.kept(x.size), x.dtype)
        _core.codecs.gather(x, values, key)
        return values

    def decode(self, wire: Buffer, out: Buffer) -> None:
        values = buffers.zeros(self.kept(out.size), out.dtype)
        _core.codecs.widen(wire, 8, values, self.width)
        self.put(values, out, int(wire[:1].view(np.uint64)[0]))

    def put(self, values: Buffer, out: Buffer, key: int) -> None:
        """Fill `out` with values at the places that a key draws."""
        if self.unbiased and values.size:
            lengths = np.diff(np.arange(values.size + 1) * out.size // values.size).astype(out.dtype)
            most = np.finfo(out.dtype).max
            np.clip(values, -most / lengths, most / lengths, out=values)
            values *= lengths
        out.fill(0)
        _core.codecs.scatter(values, out, key)

    def sent(self, count: int) -> tuple[int, ...]:
        return (self.kept(count),)

    def carried(self, count: int) -> int:
        return 0

    def mean(self, x: Buffer, out: Buffer, carried: Buffer, seed: Sequence[int]) -> Iterator[Buffer]:
        self.check_finite(x)
        key = self.key(seed)
        values = self.drawn(x, key)
        if self.unbiased:
            own = values.copy()
            self.put(own, out, key)
            x -= out
        else:
            _core.codecs.scatter(np.zeros_like(values), x, key)
        yield values
        self.put(values, out, key)
