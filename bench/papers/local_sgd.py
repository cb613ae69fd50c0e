"""Local SGD: what a longer period costs in accuracy and saves in bytes, and who closes the gap.

Four workers train an MLP on Fashion-MNIST, 2000 local steps each. Asked: how does accuracy fall as the period
grows, when every worker's data is alike and when each has labels of its own; and do post-local SGD (every step
for the first half, then the period) and an outer momentum (SlowMo, DiLoCo) give back what a long period takes?
"""

from __future__ import annotations

from collections.abc import Iterator

import loosestep as ls
from bench.papers.drawing import Ends
from bench.papers.study import Contender, Study
from bench.papers.tables import ACCURACY, SENT, TEST_LOSS, Across

STEPS = 2000
PERIODS = (1, 4, 16, 64, 256)


def methods(period: int) -> Iterator[tuple[str, ls.Strategy]]:
    """Those that are themselves at that period."""
    yield "local SGD", ls.LocalSGD(period)
    if period > 1:
        yield "post-local SGD, switch at half", ls.PostLocalSGD(STEPS // 2, period)
        yield "SlowMo, b = 0.5", ls.SlowMo(period, 0.5, momentum="keep")
    if period > 4:
        yield "DiLoCo, r = 0.7, m = 0.9", ls.DiLoCo(period)


STUDY = Study(
    tuple(
        Contender(
            label,
            strategy,
            ls.Nesterov(0.02, 0.9),
            steps=STEPS,
            by_label=by_label,
            panel="labels of their own" if by_label else "data alike",
            at=period,
        )
        for by_label in (False, True)
        for period in PERIODS
        for label, strategy in methods(period)
    ),
    evaluations=4,
    pictures=(Ends("period", ACCURACY), Ends("period", SENT)),
    tables=(Across("period", ACCURACY), Across("period", TEST_LOSS), Across("period", SENT)),
)

FINDINGS = """
"""
