"""Which workers still have data: those without any stay in the run until none has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loosestep.lowering.requests import RollCall


class Roll:
    """Which workers have data for which round, and which wait to know."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.latest = 0  # the last round for which any worker had data
        self.ended: set[int] = set()
        self.waiting: list[tuple[Any, RollCall]] = []

    def say(self, rank: int, request: RollCall, caller: Any) -> list[tuple[Any, RollCall]]:
        """Record one worker's call; return the workers that now know the answer, itself included."""
        if request.present:
            request.answer[:] = [True]
            news = request.round > self.latest
            self.latest = max(self.latest, request.round)
            return [(caller, request), *(self.release() if news and self.waiting else ())]
        self.ended.add(rank)
        self.waiting.append((caller, request))
        knows = self.latest >= request.round or len(self.ended) == self.size
        return self.release() if knows else []

    def release(self) -> list[tuple[Any, RollCall]]:
        """Answer the calls that wait for a round that is decided."""
        over = len(self.ended) == self.size
        known = [pair for pair in self.waiting if over or self.latest >= pair[1].round]
        for _, asked in known:
            asked.answer[:] = [self.latest >= asked.round]
        self.waiting = [pair for pair in self.waiting if not pair[1].answer]
        return known
