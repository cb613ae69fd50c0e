"""How many local steps methods need to a loss: as somebody has counted or measured them."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from math import log
from typing import TYPE_CHECKING

from loosestep.foundation import checks
from loosestep.planner.methods.grid import method, period
from loosestep.strategies.base import Strategy

if TYPE_CHECKING:
    from collections.abc import Mapping


class Steps:
    """Local steps of each worker to a loss, by method and period.

    Between two periods of a method that are given, steps are linear in the logarithm of the period. Beyond them,
    and of other methods and codecs, nothing is known. Sizes of buckets make no difference.

    >>> from loosestep import LocalSGD
    >>> steps = Steps({LocalSGD(4): 100, LocalSGD(16): 120})
    >>> steps.of(LocalSGD(8)), steps.of(LocalSGD(64))
    (110.0, None)

    Raises TypeError for a key that is no strategy, and ValueError for steps that are not above 0.
    """

    def __init__(self, counts: Mapping[Strategy, float]) -> None:
        self.counts: dict[object, dict[int, float]] = defaultdict(dict)
        for strategy, steps in counts.items():
            checks.instance("a key of steps", strategy, Strategy)
            checks.positive(f"steps of {strategy!r}", steps)
            self.counts[method(strategy)][period(strategy)] = float(steps)

    def of(self, strategy: Strategy) -> float | None:
        """Return the steps of a strategy, None where they are not known."""
        known, wanted = self.counts.get(method(strategy), {}), period(strategy)
        if wanted in known:
            return known[wanted]
        for below, above in pairwise(sorted(known)):
            if below < wanted < above:
                share = log(wanted / below) / log(above / below)
                return (1 - share) * known[below] + share * known[above]
        return None
