"""What carries bytes between processes, and the header that goes before each message."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from loosestep.requests import Buffer


class Kind(IntEnum):
    """What a message is."""

    DATA = 1  # one buffer of an Exchange
    FETCH = 2  # send me your shard of a variable
    VALUE = 3  # ... here it is
    PUSH = 4  # move your shards by this
    ACK = 5  # ... done
    STORE = 6  # set your shard to this
    ROLL = 7  # a RollCall
    PRESENT = 8  # ... its answer
    ASK = 9  # a question in JSON
    REPLY = 10  # ... its answer in JSON
    FAIL = 11  # I have failed, with these words
    LEFT = 12  # I have nothing more to ask


LAST_OF_WORK = int(Kind.PRESENT)
"""Messages up to this kind carry the run's work; the others are about the run, and no sign of progress."""


class Header(NamedTuple):
    """Goes before every message. `tag` matches it with the receive that waits for it."""

    kind: int
    dtype: int = 0  # numpy's type number, which takes a fifth of the time of the type's name
    size: int = 0
    number: int = 0
    round: int = 0
    tag: int = 0
    note: float = 0.0


FORMAT = Struct("<BB2xQQQQd")
DTYPES: dict[int, np.dtype[Any]] = {np.dtype(code).num: np.dtype(code) for code in "?bBhHiIlLqQefdFD"}
"""Element types by the numbers that headers have for them."""


def pack(header: Header) -> bytes:
    """Return the header as bytes, as many for every header."""
    return FORMAT.pack(*header)


def unpack(content: bytes | bytearray) -> Header:
    """Return the header that `pack` made bytes of."""
    return Header._make(FORMAT.unpack_from(content))


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
        """Write the payload of the latest header from `source` into a buffer, then call `done`; once for each."""

    @abstractmethod
    def poll(self) -> Iterable[tuple[int, Header, bytes | None]]:
        """Yield (source, header, payload) of what has come, and call what is done. Never blocks.

        The payload is None where it follows by itself: `receive` must then be called before the next is asked for.
        """

    @abstractmethod
    def pause(self) -> None:
        """Let the threads that carry bytes have this core, if there are any: a worker has just polled in vain."""

    @abstractmethod
    def rest(self, seconds: float) -> None:
        """Sleep for about so long, or until something may have come; another thread may poll meanwhile."""

    @property
    @abstractmethod
    def parts(self) -> int:
        """Return how many parts of long payloads have gone or come so far: a count that only grows."""

    @abstractmethod
    def last_heard(self, rank: int) -> float:
        """Return when (time.monotonic) anything came from that process last."""

    @abstractmethod
    def close(self, *, orderly: bool) -> None:
        """Give back what it holds; after a failure without asking any other process."""

    @abstractmethod
    def end_job(self) -> None:
        """End every process, this one too, whatever state it is in."""
