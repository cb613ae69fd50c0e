"""The clock of real transports: seconds of a run for every worker, without synchronization points."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from time import perf_counter


class Stopwatch:
    """Starts at `begin`; a worker's clock stands still between its `pause` and its `proceed`.

    Waiting is measured only while the clock runs, so it never exceeds the elapsed time.
    """

    def __init__(self) -> None:
        self._origin = perf_counter()
        self._ahead: dict[int, float] = defaultdict(float)  # before a resumed run began, less all pauses
        self._paused: dict[int, float] = {}

    def begin(self) -> None:
        """Set zero to now."""
        self._origin = perf_counter()

    def resume(self, rank: int, seconds: float) -> None:
        """Let a worker's clock begin at `seconds`."""
        self._ahead[rank] = seconds

    def now(self, rank: int) -> float:
        """Return the seconds of that worker."""
        return self._paused.get(rank, perf_counter()) - self._origin + self._ahead[rank]

    def clock(self, rank: int) -> Callable[[], float]:
        """Return the real clock, for differences."""
        return perf_counter

    def pause(self, rank: int) -> None:
        """Stop that worker's clock."""
        self._paused[rank] = perf_counter()

    def proceed(self, rank: int) -> None:
        """Let the clock of a worker go on from where it stood."""
        since = self._paused.get(rank)
        if since is not None:
            self._ahead[rank] -= perf_counter() - since
            del self._paused[rank]
