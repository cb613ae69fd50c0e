"""What carries bytes between processes, and the header that goes before each message."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from loosestep.requests import Buffer


class Kind(IntEnum):
    """What a message is."""

    DATA = 1  # one buffer of an Exchange
    FETCH = 2  # send me your piece of a shared variable
    VALUE = 3  # ... here it is
    PUSH = 4  # move your pieces by this
    ACK = 5  # ... done
    STORE = 6  # set your piece to this
    ROLL = 7  # a RollCall
    PRESENT = 8  # ... its answer
    ASK = 9  # a question in JSON
    REPLY = 10  # ... its answer in JSON
    FAIL = 11  # I have failed, with these words
    LEFT = 12  # I have nothing more to ask


class Header(NamedTuple):
    """Goes before every message. `tag` matches it with what waits for it."""

    kind: int
    dtype: str = ""
    size: int = 0
    number: int = 0
    round: int = 0
    tag: int = 0
    note: float = 0.0


FORMAT = Struct("<B3sQQQQd")


def pack(header: Header) -> bytes:
    """Bytes of one length."""
    kind, dtype, *rest = header
    return FORMAT.pack(kind, dtype.encode(), *rest)


def unpack(content: bytes | bytearray) -> Header:
    """What `pack` made."""
    kind, dtype, *rest = FORMAT.unpack_from(content)
    return Header(kind, dtype.rstrip(b"\0").decode(), *rest)


class Wire(ABC):
    """Carries messages between `size` processes, in order between any two. Not safe for two threads at once."""

    rank: int
    size: int
    local: bool = False  # all processes are on one machine and reach each other at 127.0.0.1

    @abstractmethod
    def send(self, to: int, header: Header, payload: Buffer | None, done: Callable[[], None] | None) -> None:
        """Begin to send; `done` is called when the payload may be changed again."""

    @abstractmethod
    def receive(self, source: int, into: Buffer, done: Callable[[], None]) -> None:
        """Say where the payload of the header that came last from `source` shall go; called once for each."""

    @abstractmethod
    def poll(self) -> Iterable[tuple[int, Header, bytes | None]]:
        """Move on; yields headers that came, with their payload where that came along. Never blocks.

        `receive` must be called for a header whose payload did not come along, before the next is asked for.
        """

    @property
    @abstractmethod
    def busy(self) -> int:
        """How many payloads are under way."""

    @abstractmethod
    def heard(self, rank: int) -> float:
        """When (time.monotonic) a sign of life of that process came last."""

    @abstractmethod
    def close(self, *, orderly: bool) -> None:
        """Give back what it holds; after a failure without asking anybody."""

    @abstractmethod
    def end_job(self) -> None:
        """End every process, this one too, whatever state it is in."""
