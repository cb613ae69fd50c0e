"""Calls of all processes of a loop whose workers consist of several: between the workers, then within each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from loosestep.foundation.errors import Mismatch
from loosestep.runtime.agreement.base import Meeting

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import numpy.typing as npt

    from loosestep.runtime.agreement.meeting import Agreement


class AgreementOfProcesses(Meeting):
    """Calls of all processes of all workers, numbered worker by worker.

    between: the agreement of the processes that have this one's place in their workers. within: gives an object to
    the processes of this worker, and returns those of all of them, by place.

    First those of one place meet, then those of one worker: who has come through both knows that all have come.
    """

    def __init__(self, between: Agreement, within: Callable[[Any], list[Any]], place: int, processes: int) -> None:
        self.between, self.within, self.processes = between, within, processes
        self.loop, self.worker = between.loop, between.worker
        self.rank, self.size = between.rank * processes + place, between.size * processes

    def who(self, rank: int) -> str:
        return f"process {rank % self.processes} of worker {rank // self.processes}"

    def call(self, what: str) -> AbstractContextManager[None]:
        return self.between.call(what)

    def meet(self, what: str, detail: str = "") -> bool:
        alike = self.between.meet(what, detail)
        return all(self.compared(what, (alike, detail), lambda each: each == (True, detail)))

    def all_gather(self, what: str, mine: Any, detail: str = "") -> list[Any]:
        by_place = self.compared(what, self.between.all_gather(what, mine, detail), lambda found: found)
        return [found[number] for number in range(self.between.size) for found in by_place]

    def sum(self, numbers: npt.NDArray[np.float64]) -> None:
        self.between.sum(numbers)
        total = np.zeros_like(numbers)
        for each in self.within(numbers):
            total += each
        numbers[:] = total

    def largest(self, number: int) -> int:
        """Return the largest of the numbers that the processes of this worker give."""
        return int(max(self.within(number)))

    def compared(self, what: str, mine: Any, take: Callable[[Any], Any]) -> list[Any]:
        """Return what `take` makes of the objects of this worker's processes, all of which are in this call."""
        found = self.within((f"{what} after step {self.worker.clock}", mine))
        calls = [call for call, _ in found]
        if len(set(calls)) > 1:
            first = self.worker.rank * self.processes
            where = "; ".join(f"{self.who(first + place)} is in {call}" for place, call in enumerate(calls))
            raise Mismatch(f"{where}: all processes of a worker must make the same calls, each at one step")
        return [take(each) for _, each in found]
