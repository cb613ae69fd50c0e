"""A clock that a test sets: it stands in for the module `time` of code that asks it."""

from __future__ import annotations

from collections.abc import Callable


class Clock:
    """Seconds go on only by `sleep`, and by what a test adds to `now`."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.naps = 0
        self.tick = 0.0  # seconds that every look at it takes, for code that looks again and again
        self.meanwhile: Callable[[], None] = lambda: None  # what others do while somebody sleeps

    def __call__(self) -> float:
        return self.now

    def monotonic(self) -> float:
        self.now += self.tick
        return self.now

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass, and the others do something."""
        assert seconds >= 0
        self.now += seconds
        self.naps += 1
        self.meanwhile()
