"""Time on a GPU: between events on its stream, over buffers that take turns so that its L2 holds none of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

from bench.harness import Elsewhere, Sample
from loosestep.cuda.device import elapsed
from loosestep.cuda.launch import cupy

TIMES_L2 = 4
"""Buffers in turn hold so many times what the L2 does."""


class OnGpu(Elsewhere):
    """Runs in turn, one for each set of buffers; timed by the GPU itself."""

    def __init__(self, runs: Sequence[Callable[[], object]]) -> None:
        self.runs = cycle(runs)

    def sample(self, repeats: int) -> Sample:
        return Sample(elapsed(lambda: [next(self.runs)() for _ in range(repeats)]) / repeats)


def sets_of(size: int) -> int:
    """How many sets of so many bytes must take turns."""
    held: Any = cupy().cuda.Device().attributes["L2CacheSize"]
    return max(1, -(-TIMES_L2 * int(held) // size))
