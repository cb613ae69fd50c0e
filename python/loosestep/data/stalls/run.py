"""The time of a batch in a run, from times of blocks of batches, so that a pause of the machine does not count."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BLOCKS = 10


@dataclass(frozen=True)
class Run:
    """One run of a measurement: `count` batches, `seconds` in all, of them `waited` for the loader.

    typical: seconds of a batch, the median over blocks of consecutive batches; the mean where there is none.
    """

    count: int
    seconds: float
    waited: float = 0.0
    typical: float | None = None

    @property
    def each(self) -> float:
        """Seconds of a batch."""
        return self.seconds / self.count if self.typical is None else self.typical


class Blocks:
    """Collects the times of `count` batches in up to ten blocks, each of a multiple of `workers`.

    Workers deliver in bursts, one batch each, so a block with a part of a burst would mislead.
    """

    def __init__(self, count: int, workers: int) -> None:
        self.size = -(-max(1, count // BLOCKS) // workers) * workers
        self.last = max(0, count // self.size - 1)  # which takes what is left over
        self.count, self.waited = count, 0.0
        self.times: dict[int, list[float]] = {}

    def is_end(self, number: int) -> bool:
        """Return whether a block ends with a batch."""
        return number == self.count - 1 or self.block(number + 1) != self.block(number)

    def block(self, number: int) -> int:
        """Return the block of a batch."""
        return min(number // self.size, self.last)

    def add(self, number: int, seconds: float, waited: float) -> None:
        """Add the times of a batch."""
        self.times.setdefault(self.block(number), []).append(seconds)
        self.waited += waited

    def run(self) -> Run | None:
        """Return the run, None where no batch was timed."""
        if not self.times:
            return None
        typical = float(np.median([sum(block) / len(block) for block in self.times.values()]))
        count = sum(len(block) for block in self.times.values())
        return Run(count, sum(sum(block) for block in self.times.values()), self.waited, typical)
