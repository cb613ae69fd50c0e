"""Which ranks have left the run, or failed in it."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from loosestep.foundation.errors import PeerFailed
from loosestep.transports.processes.queries import receive_json, send_json
from loosestep.transports.processes.wire import Header, Kind

if TYPE_CHECKING:
    from loosestep.transports.processes.mailbox import Arrivals, Mailbox


class Departures:
    """Tells the others that this worker leaves or fails, and notes what they tell."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        self.left: set[int] = set()
        self.failed: tuple[int, str] | None = None  # the first failure of another worker: its rank and words
        self.failed_at = 0.0
        self.arrivals: Arrivals = {Kind.FAIL: self.receive_failure, Kind.LEFT: self.receive_left}

    @property
    def complete(self) -> bool:
        """Return whether all workers have left."""
        return len(self.left) == self.mailbox.size

    def check(self) -> None:
        """Raise PeerFailed if another worker has failed."""
        if self.failed is not None:
            raise PeerFailed(*self.failed)

    def tell_failure(self, words: str) -> None:
        """Tell every other worker that this one has failed."""
        with self.mailbox.lock:
            for rank in range(self.mailbox.size):
                if rank != self.mailbox.rank:
                    send_json(self.mailbox.wire, rank, Kind.FAIL, 0, words)

    def receive_failure(self, source: int, header: Header, content: bytes | None) -> None:
        """Note the failure of another worker."""
        receive_json(self.mailbox.wire, source, header, content, partial(self.note_failure, source))

    def note_failure(self, source: int, words: str) -> None:
        """Keep the first failure, and when it was reported."""
        if self.failed is None:
            self.failed_at = time.monotonic()
            self.failed = source, words

    def tell_left(self) -> None:
        """Tell every other worker that this one has nothing more to ask; it still serves them."""
        with self.mailbox.lock:
            self.left.add(self.mailbox.rank)
            for rank in range(self.mailbox.size):
                if rank != self.mailbox.rank:
                    self.mailbox.wire.send(rank, Header(Kind.LEFT), None, None)

    def receive_left(self, source: int, header: Header, content: bytes | None) -> None:
        """Note that another worker has left."""
        self.left.add(source)
