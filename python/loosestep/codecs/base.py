"""What a wire format is."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from loosestep.foundation.value import Value

if TYPE_CHECKING:
    from loosestep.requests import Buffer


class Codec(Value):
    """Values to and from a wire: words of 8 bytes, held as float64 and only ever copied.

    A subclass is a frozen dataclass with defaults. The same values give the same words everywhere.
    """

    @classmethod
    def example(cls) -> Codec:
        """An instance for tests; override where a class has no complete defaults."""
        return cls()

    @abstractmethod
    def words(self, count: int) -> int:
        """How many words so many values take."""

    @abstractmethod
    def encode(self, x: Buffer, wire: Buffer) -> None:
        """Fill the words with the rounded values. Raises ValueError where one is not finite."""

    @abstractmethod
    def decode(self, wire: Buffer, out: Buffer) -> None:
        """The rounded values."""
