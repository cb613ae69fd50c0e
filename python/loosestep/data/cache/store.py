"""Records by number in shared memory: added until it is full, never removed, read without a lock."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from loosestep.data.shared_memory.segment import Segment

MAGIC = 0x6C6F6F7365303031
HEADER, PROCESSES, COUNTERS = 4096, 1024, 8
CHUNK = 64 << 20  # bytes that are reserved at a time
ALIGN = 16  # of a record: its length, padding, its content


@dataclass(frozen=True)
class CacheStats:
    """What a cache of a host has done and holds, summed over all of its processes.

    hits: samples that came from this host's memory. remote_hits: from another host's. misses: from the data set.
    stored, bytes: samples in this host's memory, and their bytes, at most `capacity`. failures: requests of other
    hosts that were not answered.
    """

    hits: int
    remote_hits: int
    misses: int
    failures: int
    stored: int
    bytes: int
    capacity: int

    @property
    def hit_rate(self) -> float:
        """The share of samples that did not come from the data set."""
        asked = self.hits + self.remote_hits + self.misses
        return (self.hits + self.remote_hits) / asked if asked else 0.0


class Store:
    """Up to `capacity` bytes of records with numbers below `items`, in memory that `make` has made.

    In order: a header (magic, items, capacity, bytes, end of the records, how many, end of what is reserved,
    whether it has stopped growing); a row of counters for each process; where each record is; the records.
    """

    def __init__(self, segment: Segment, deadline: float) -> None:
        self.segment, self.deadline = segment, deadline
        self.header = np.frombuffer(segment.memory, np.int64, 8)
        self.items, self.capacity = int(self.header[1]), int(self.header[2])
        rows = np.frombuffer(segment.memory, np.int64, PROCESSES * COUNTERS, HEADER)
        self.rows = rows.reshape(PROCESSES, COUNTERS)
        start = HEADER + rows.nbytes
        self.index = np.frombuffer(segment.memory, np.int64, self.items, start)
        self.start = data_start(self.items)
        self.pid, self.row = 0, rows[:0]

    @staticmethod
    def make(items: int, capacity: int) -> Segment:
        """Return memory for a store. Raises MemoryError where there is too little for it."""
        start = data_start(items)
        segment = Segment.make(start + capacity + 2 * ALIGN * items, "loosestep-cache")
        segment.reserve(0, start)
        header = np.frombuffer(segment.memory, np.int64, 8)
        header[1:3] = items, capacity
        segment.fence()
        header[0] = MAGIC
        return segment

    def check(self, items: int, capacity: int) -> None:
        """Raise ValueError if this was made for something else."""
        if (int(self.header[0]), self.items, self.capacity) != (MAGIC, items, capacity):
            raise ValueError(
                f"the cache of this name holds up to {self.capacity} bytes of {self.items} samples, and this "
                f"process wants {capacity} bytes of {items}: give it another name"
            )

    def get(self, number: int) -> memoryview | None:
        """Return a record, which does not change any more, or None."""
        at = int(self.index[number])
        if not at:
            return None
        length = int.from_bytes(self.segment.view[at : at + 8], "little")
        return self.segment.view[at + ALIGN : at + ALIGN + length]

    def put(self, number: int, content: bytes | memoryview) -> bool:
        """Add a record if it is new and there is room; return whether it is there.

        Raises TimeoutError if another process has been in the middle of adding one for `deadline` seconds.
        """
        if self.index[number] or self.room < len(content):
            return bool(self.index[number])
        with self.segment.locked(self.deadline):
            if self.index[number] or self.room < len(content):
                return bool(self.index[number])
            at, end = self._place(len(content))
            if not self._reserve(end):
                return False
            self.segment.view[at : at + 8] = len(content).to_bytes(8, "little")
            self.segment.view[at + ALIGN : at + ALIGN + len(content)] = content
            # a process that is killed from here on wastes the place, but nobody sees half a record
            self.header[4] = end
            self.header[3] += len(content)
            self.header[5] += 1
            self.segment.fence()
            self.index[number] = at
        return True

    @property
    def room(self) -> int:
        """Bytes that are left."""
        return 0 if self.header[7] else self.capacity - int(self.header[3])

    def count(self, *columns: int) -> None:
        """Add one to counters of this process."""
        with self.segment._own_guard():
            row = self._own_row()
            for column in columns:
                row[column] += 1

    def stats(self) -> CacheStats:
        """Return the sums over all processes, those that have ended included."""
        hits, remote, misses, failures = (int(total) for total in self.rows.sum(axis=0)[:4])
        stored, size = int(self.header[5]), int(self.header[3])
        return CacheStats(hits, remote, misses, failures, stored, size, self.capacity)

    def _place(self, length: int) -> tuple[int, int]:
        """Return where a record of that length begins, and where the next one will."""
        at = max(int(self.header[4]), self.start)
        return at, at + ALIGN + -(-length // ALIGN) * ALIGN

    def _reserve(self, end: int) -> bool:
        """Take memory up to there; where the system has no more, the cache is full."""
        reserved = max(int(self.header[6]), self.start)
        if end <= reserved:
            return True
        size = min(max(CHUNK, end - reserved), len(self.segment.view) - reserved)
        try:
            self.segment.reserve(reserved, size)
        except MemoryError as error:
            told = f"the cache stops growing at {int(self.header[3])} of {self.capacity} bytes: {error}"
            warnings.warn(told, RuntimeWarning, stacklevel=2)
            self.header[7] = 1
            return False
        self.header[6] = reserved + size
        return True

    def _own_row(self) -> Any:
        """Return this process's counters: a row that no living process has; it goes on from what is there."""
        if self.pid != os.getpid():
            free = (row for row in range(PROCESSES) if self.segment.claim(1 + row))
            found = next(free, None)
            if found is None:
                raise RuntimeError(f"a cache is for at most {PROCESSES} processes of a host")
            self.pid, self.row = os.getpid(), self.rows[found]
        return self.row


def data_start(items: int) -> int:
    """Return where records begin."""
    return HEADER + (PROCESSES * COUNTERS + items + 1) // 2 * 16
