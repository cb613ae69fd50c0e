"""Loaders whose fetching and preparing take known times of a clock that a test sets."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from tests.unit.clock import Clock

from loosestep.data import stalls


class Timed:
    """A loader of batches of 8 rows: `fetch` (on disk only) and `prep` seconds for each.

    ahead: how many batches it prepares ahead of the loop; 0 is a serial loader. staged: whether it fetches one
    batch while it prepares another.
    """

    def __init__(
        self, clock: Clock, fetch: float, prep: float, *, ahead: int = 0, staged: bool = False, length: int = 1000
    ) -> None:
        self.clock, self.fetch, self.prep, self.ahead, self.staged = clock, fetch, prep, ahead, staged
        self.length, self.on_disk = length, False

    def drop(self) -> None:
        self.on_disk = True

    def fill(self) -> None:
        self.on_disk = False

    def __iter__(self) -> Iterator[Any]:
        handed = deque([self.clock.now] * self.ahead, maxlen=max(1, self.ahead))
        fetched = ready = self.clock.now
        for number in range(self.length):
            fetch = self.fetch if self.on_disk else 0.0
            free = handed[0] if self.ahead else self.clock.now
            if self.staged:
                fetched = max(fetched, free) + fetch
                ready = max(ready, fetched) + self.prep
            else:
                ready = max(ready, free) + fetch + self.prep
            self.clock.now = max(self.clock.now, ready)
            handed.append(self.clock.now)
            yield [number] * 8


def measured(loader: Timed, compute: float, **options: Any) -> stalls.Report:
    """Return the report of a loop over it, whose step takes `compute` seconds."""
    options = {"batches": 50, "warmup": 5, **options}
    clock = loader.clock

    def step(batch: Any) -> None:
        clock.now += compute

    return stalls.measure(loader, step, cold=loader.drop, cached=loader.fill, clock=clock, **options)
