"""Wall-clock seconds of a run, quiesce points left out."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter


class Stopwatch:
    """Begins with `begin`, stands still between `pause` and `proceed`."""

    def __init__(self) -> None:
        self._origin = perf_counter()
        self._paused: float | None = None
        self._carried = 0.0  # seconds before a resumed run began

    def begin(self) -> None:
        """Zero is now."""
        self._origin = perf_counter() - self._carried

    def resume(self, rank: int, seconds: float) -> None:
        """Let the clock, which is the same for all, begin at `seconds`."""
        self._carried = seconds

    def now(self, rank: int) -> float:
        """Seconds, the same for all workers."""
        return (perf_counter() if self._paused is None else self._paused) - self._origin

    def clock(self, rank: int) -> Callable[[], float]:
        """The real clock, for differences."""
        return perf_counter

    def pause(self) -> None:
        """Stand still."""
        self._paused = perf_counter()

    def proceed(self) -> None:
        """Go on from where it stood."""
        if self._paused is not None:
            self._origin += perf_counter() - self._paused
            self._paused = None
