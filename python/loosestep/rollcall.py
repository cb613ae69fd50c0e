"""Which workers still have data, so that those whose data ended stay until all have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loosestep.requests import RollCall


class Roll:
    """Who has data for which round, and who waits to know."""

    def __init__(self, size: int) -> None:
        self.latest = [0] * size  # the last round for which this worker had data
        self.ended: set[int] = set()
        self.waiting: list[tuple[Any, RollCall]] = []

    def say(self, rank: int, request: RollCall, who: Any) -> list[tuple[Any, RollCall]]:
        """Note one worker's word; returns those who now know."""
        if request.present:
            self.latest[rank] = request.round
            request.answer[:] = [True]
            if not self.waiting:
                return [(who, request)]
        else:
            self.ended.add(rank)
        self.waiting.append((who, request))
        known = [(who, asked) for who, asked in self.waiting if self.knows(asked)]
        self.waiting = [pair for pair in self.waiting if pair not in known]
        return known

    def knows(self, asked: RollCall) -> bool:
        """Whether the answer is out; if so, it is written."""
        some = asked.present or any(latest >= asked.round for latest in self.latest)
        if some or len(self.ended) == len(self.latest):
            asked.answer[:] = [some]
            return True
        return False
