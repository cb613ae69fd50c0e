"""A server in plain numpy: workers of unequal speed come to it one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from math import inf

import numpy as np
from tests.papers.problems import RATE, Array, Quadratics

import loosestep as ls


def serve(
    problem: Quadratics, steps: int, period: int, factors: Sequence[float], come: Callable[[int, Array], Array]
) -> list[Array]:
    """Let every worker make `steps` local steps, each of 1 second times its factor, and come after each `period`.

    come(rank, D), D = what it had - what it has, returns where it goes on; at one time the lowest comes first.
    Return where each worker began its rounds.
    """
    had, begun = list(problem.starts()), [[problem.start] for _ in factors]
    calendar = [(period * factor, rank) for rank, factor in enumerate(factors)]
    heapify(calendar)
    rounds = [0] * len(factors)
    while calendar:
        _, rank = heappop(calendar)
        x = had[rank]
        for _ in range(period):
            x = x - RATE * problem.gradient(x, rank)
        had[rank] = come(rank, had[rank] - x)
        rounds[rank] += 1
        if rounds[rank] < steps // period:
            begun[rank].append(had[rank])
            heappush(calendar, ((rounds[rank] + 1) * period * factors[rank], rank))
    return [np.array(points) for points in begun]


def slow_last(workers: int, factor: float) -> ls.Simulated:
    """A cluster whose last worker is so many times as slow, and whose messages take no time."""
    slow = ls.stragglers.SlowWorker(workers - 1, factor)
    return ls.Simulated(workers, step_time=1.0, latency=0.0, bandwidth=inf, stragglers=slow)
