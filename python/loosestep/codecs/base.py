"""The base of every wire format."""

from __future__ import annotations

from abc import abstractmethod
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from loosestep import _core, ops
from loosestep.foundation.buffers import is_on_device
from loosestep.foundation.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from loosestep.requests import Buffer


class Codec(Value):
    """Base of every wire format: values are rounded to words of 8 bytes, held as float64 and only ever copied.

    A subclass is a frozen dataclass with defaults. It holds no state: the same values and the same seed give the
    same words everywhere. What is lost (the residual of error feedback) and what is carried from round to round is
    in the state of the strategy that encodes: the residual is x less what `decode` gives. Strategies decide which
    values go together, the whole buffer or each tensor, and whether all workers draw from one seed.

    unbiased: the mean over seeds of what is decoded is what was encoded. One that is not must contract:
        `error` is below 1.
    on_device: values and words may also be buffers on a device, both on one; the words are those of the CPU.
    """

    unbiased: ClassVar[bool] = False
    on_device: ClassVar[bool] = False

    @classmethod
    def example(cls) -> Codec:
        """Return an instance for contract tests; override where a class has no complete defaults."""
        return cls()

    @abstractmethod
    def bits(self, count: int) -> int:
        """Return how many bits so many values take; in the words they come first, in a byte the lowest first."""

    @abstractmethod
    def error(self, count: int) -> float:
        """Return a bound of |decoded - x|^2 / |x|^2 for any x of so many values, in the mean over seeds.

        Below 1 the format contracts with delta = 1 - error, as error feedback needs it. It need not hold where
        numbers are near the largest or the least of their type.
        """

    @abstractmethod
    def encode(self, x: Buffer, wire: Buffer, seed: Sequence[int] = ()) -> None:
        """Fill `wire` with the rounded values, drawing what is random from `numpy.random.SeedSequence(seed)`.

        It raises ValueError, by `check_finite` or `refuse_unless`, where x holds an infinity or a NaN, and works
        up to the largest number of x's type. `wire` is at least `words` long, and may be longer.
        """

    @abstractmethod
    def decode(self, wire: Buffer, out: Buffer) -> None:
        """Fill `out` with the rounded values, in its own type."""

    def add(self, wire: Buffer, out: Buffer, weight: float, room: Buffer) -> None:
        """Add the rounded values times `weight` to `out`; `room` is like it, and may be written.

        A sum of messages is a left fold of this in the order of ranks, so it has the same bits everywhere.
        """
        self.decode(wire, room)
        ops.axpy(out, room, weight)

    def count(self, wire: Buffer, weights: Buffer, weight: float) -> None:
        """Add `weight` to `weights` where the message holds a value: everywhere, except in sparse formats."""
        weights += weight

    def norm(self, wire: Buffer, room: Buffer) -> float:
        """Return the Euclidean norm of the rounded values; `room` is as long as they are, and may be written."""
        self.decode(wire, room)
        return ops.norm(room)

    def contracted(self, count: int) -> tuple[Codec, float]:
        """Return a codec and a factor for what it decodes, which together contract: this one, if it does alone.

        What is decoded by an unbiased one is divided by 1 + `error`.
        """
        return self, 1 / (1 + self.error(count)) if self.unbiased else 1.0

    def shaped(self, shape: tuple[int, ...]) -> Codec:
        """Return the codec for the values of one tensor of this shape: this one, where shapes do not matter."""
        return self

    @staticmethod
    def check_finite(x: Buffer) -> None:
        """Refuse an infinity or a NaN."""
        Codec.refuse_unless(ops.all_finite(x))

    @staticmethod
    def refuse_unless(finite: bool) -> None:
        """Raise the error of `check_finite` where a format found by itself that values are not finite."""
        if not finite:
            raise ValueError("what is sent must be finite, and holds an infinity or a NaN")

    @staticmethod
    def native(values: Buffer) -> Any:
        """Return the native functions of formats for where values lie: `_core.codecs`, or those of a device."""
        return import_module("loosestep.cuda.codecs") if is_on_device(values) else _core.codecs

    @staticmethod
    def key(seed: Sequence[int]) -> int:
        """Return 64 random bits that are a function of the seed."""
        return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])

    def words(self, count: int) -> int:
        """Return how many words so many values take: `bits`, rounded up."""
        return -(-self.bits(count) // 64)


class SummedCodec(Codec):
    """Base of formats whose messages can be added: all workers draw from one seed, and means are all-reduced.

    Such a mean sends as few bytes for many workers as for two, and needs no word that says where a value belongs.
    """

    @abstractmethod
    def sent(self, count: int) -> tuple[int, ...]:
        """Return how many values each of the means has, one after the other, in the parameters' type."""

    @abstractmethod
    def carried(self, count: int) -> int:
        """Return how many float64 numbers are carried from one mean to the next, zeros at first."""

    @abstractmethod
    def mean(self, x: Buffer, out: Buffer, carried: Buffer, seed: Sequence[int]) -> Iterator[Buffer]:
        """Yield each buffer that the caller replaces by its mean over workers, then fill `out` with the mean of x.

        x becomes the residual. `seed` must be the same on all workers.
        """
