"""Averages of some coordinates, the same on all workers, that nobody has to send: SPARTA's and LOSCAR's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loosestep.foundation import checks
from loosestep.requests import AllReduce

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Request
    from loosestep.requests.worker import Worker


def check_fraction(fraction: float) -> None:
    """Refuse a share of the parameters that is not above 0 and at most 1."""
    checks.positive("fraction", fraction)
    checks.at_most("fraction", fraction, 1)


def some_of(count: int, fraction: float) -> int:
    """Return how many of so many parameters that is: at least one."""
    return max(1, round(fraction * count))


def average_some(worker: Worker, fraction: float) -> Iterator[Request]:
    """Replace some of the parameters, drawn by seed and round, by their mean."""
    count = some_of(worker.params.size, fraction)
    places, values = worker.sample(count, worker.round), worker.workspace("some", count)
    values[:] = worker.params[places]
    yield AllReduce(values, op="mean", weight=worker.samples)
    worker.params[places] = values
