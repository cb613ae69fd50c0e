"""The base of every wire format."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from loosestep import ops
from loosestep.foundation.value import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loosestep.requests import Buffer


class Codec(Value):
    """Base of every wire format: values are rounded to words of 8 bytes, held as float64 and only ever copied.

    A subclass is a frozen dataclass with defaults. It holds no state: the same values and the same seed give the
    same words everywhere. What is lost (the residual of error feedback) and what is carried from round to round is
    in the state of the strategy that encodes: the residual is x less what `decode` gives. Strategies decide which
    values go together, the whole buffer or each tensor, and whether all workers draw from one seed.

    unbiased: the mean over seeds of what is decoded is what was encoded. One that is not must contract:
        `error` is below 1.
    """

    unbiased: ClassVar[bool] = False

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

        It begins with `check_finite(x)`, and works up to the largest number of x's type.
        """

    @abstractmethod
    def decode(self, wire: Buffer, out: Buffer) -> None:
        """Fill `out` with the rounded values, in its own type."""

    @staticmethod
    def check_finite(x: Buffer) -> None:
        """Refuse an infinity or a NaN."""
        if not ops.all_finite(x):
            raise ValueError("what is sent must be finite, and holds an infinity or a NaN")

    def words(self, count: int) -> int:
        """Return how many words so many values take: `bits`, rounded up."""
        return -(-self.bits(count) // 64)
