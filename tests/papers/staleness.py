"""Runs that count: coordinate j of the center is how many steps of worker j it has."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import Any

import numpy as np

import loosestep as ls


def counted(strategy: ls.Strategy, on: Any, *steps: int) -> tuple[list[list[Any]], ls.Result]:
    """(for every worker, what it saw when it began each step, and the result); `steps` of each, or of all."""
    seen: list[list[Any]] = [[] for _ in range(on.size)]

    def gradient(x: Any, rank: int) -> Any:
        seen[rank].append(x.copy())
        return -np.eye(on.size)[rank]

    def batches(rank: int, size: int) -> Iterator[int]:
        return repeat(rank, steps[rank] if len(steps) > 1 else steps[0])

    rate = ls.SGD(1.0)
    result = ls.run(strategy, gradient, np.zeros(on.size), batches, optimizer=rate, on=on)
    return seen, result


UNEQUAL = [
    ls.Simulated(4, stragglers=ls.stragglers.SlowWorker(0, 4.0)),
    ls.Simulated(4, stragglers=ls.stragglers.LogNormal(1.0), latency=2e-4, center_bandwidth=3e5),
    ls.Simulated(3, stragglers=ls.stragglers.SlowWorker(2, 9.0), latency=0.0),
    ls.Threads(4),
]
