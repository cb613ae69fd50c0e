"""The runs that a process takes part in over one set of connections: each gets what is its own.

All processes of a job begin their runs in one order, so a run has the same number everywhere, and every message
says it. Whichever run's thread reads the connections serves all runs.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import TYPE_CHECKING

from loosestep.transports.zmq.peers import MARK, NO_RUN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from loosestep.transports.zmq.peers import Arrival, Peers, Room


class Runs:
    """Hands what comes to the run that it belongs to, also before its channel is made.

    lock: is held by whoever uses the connections; nothing else is waited for meanwhile. note: is given (source,
    message) of what belongs to no run.
    """

    def __init__(self, peers: Peers, note: Callable[[int, bytes], None]) -> None:
        self.peers, self.note = peers, note
        self.lock = threading.RLock()
        self.inboxes: dict[bytes, deque[Arrival]] = {}  # of the runs that are open, by mark
        self.count = 0  # runs that were begun here
        self.refused: dict[tuple[int, int], str] = {}  # (source, run): why nothing is delivered

    def open(self) -> bytes:
        """Return the mark of one more run; from now on what comes for it is kept."""
        with self.lock:
            self.count += 1
            mark = MARK.pack(self.count)
            self.inboxes[mark] = deque()
            return mark

    def close(self, mark: bytes) -> None:
        """Deliver nothing more to a run."""
        with self.lock:
            self.inboxes.pop(mark, None)

    def take(self, mark: bytes, room: Room) -> Arrival | None:
        """Return the next that has come for a run, as `Peers.read` does; None where nothing has."""
        with self.lock:
            inbox = self.inboxes[mark]
            if inbox:
                return inbox.popleft()
            while (arrival := self.peers.read(mark, room)) is not None:
                if arrival[1] == mark:
                    return arrival
                self.hand_on(arrival)
            return None

    def serve(self) -> bool:
        """Hand on what has come, for whichever run, and return whether anything has."""
        with self.lock:
            came = False
            while (arrival := self.peers.read(b"", nowhere)) is not None:
                came = True
                self.hand_on(arrival)
            return came

    def rest(self, mark: bytes, ranks: Iterable[int]) -> None:
        """Sleep for a millisecond, or until something may have come for a run or may go to some ranks."""
        if not self.inboxes.get(mark):
            self.peers.rest(ranks)

    def hand_on(self, arrival: Arrival) -> None:
        """Keep what has come for a run until that asks for it."""
        source, mark, message, _ = arrival
        inbox = self.inboxes.get(mark)
        if inbox is not None:
            inbox.append(arrival)
        elif mark == NO_RUN and message is not None:
            self.note(source, message)
        else:
            self.refuse(source, *MARK.unpack(mark.ljust(MARK.size, b"\0")))

    def refuse(self, source: int, run: int) -> None:
        """Drop what belongs to no open run; print why, once, unless it is a late word of one that is over."""
        if (source, run) in self.refused:
            return
        over = 0 < run <= self.count
        why = "that run is over here" if over else f"there were {self.count} here"
        self.refused[source, run] = f"dropped what worker {source} sent for run {run}: {why}"
        if not over:
            print(f"worker {self.peers.rank} {self.refused[source, run]}", file=sys.stderr, flush=True)


def nowhere(source: int) -> memoryview:
    """Take the place of a run's memory where no run reads."""
    raise RuntimeError(f"a part of a payload of worker {source} has no run")
