"""The best row of a column: one that leads by more than chance would explain."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loosestep.cli.report.summary import Number


def leader(numbers: Sequence[Number | None], *, most: bool, unit: float = 0.0) -> int | None:
    """Return the index of the best number, or None where the best cannot be told from the next.

    The lead over the second must be larger than `unit`, such as what one test row makes, and than the spread over
    the seeds of each of the two; where there is one seed, that spread is not known.
    """
    there = [(number, place) for place, number in enumerate(numbers) if number is not None]
    there.sort(key=lambda pair: pair[0].mean, reverse=most)
    if len(there) < 2:
        return None
    (best, place), (second, _) = there[:2]
    if best.spread is None or second.spread is None:
        return None
    return place if abs(best.mean - second.mean) > max(unit, best.spread, second.spread) else None
