"""Apportionment of a whole number among workers: nothing is lost, and nobody gets none.

>>> apportion(128, [1, 1, 1, 3])
[22, 21, 21, 64]
>>> apportion(5, [0.98, 0.01, 0.01])
[3, 1, 1]
"""

from __future__ import annotations

from collections.abc import Sequence


def apportion(total: int, fractions: Sequence[float]) -> list[int]:
    """Return whole numbers in proportion to `fractions`, each at least 1, whose sum is `total` exactly.

    Rounded down, then one more for the largest remainders (of equal ones for the lowest ranks); who has none takes
    one from the largest.
    """
    if total < len(fractions):
        raise ValueError(f"{total} cannot be shared out among {len(fractions)} workers: each needs at least 1")
    whole = float(sum(fractions))
    exact = [total * share / whole for share in fractions]
    parts = [int(part) for part in exact]
    order = sorted(range(len(fractions)), key=lambda rank: (parts[rank] - exact[rank], rank))
    for rank in order[: total - sum(parts)]:
        parts[rank] += 1
    while (poorest := min(parts)) < 1:
        parts[parts.index(max(parts))] -= 1
        parts[parts.index(poorest)] += 1
    return parts
