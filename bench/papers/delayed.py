"""Delayed averaging: communication that takes the time of several steps, hidden behind them.

Workers train an MLP on Fashion-MNIST and average every 8 local steps. Asked: how does the time of a run grow
with the time of an average, where the workers wait for it (local SGD), and where it arrives 4 steps (DaSGD) or 8
steps later (CoCoD-SGD, Overlap-Local-SGD); and what does the delay cost in accuracy? In virtual time a step
takes 1 ms and an average as many of them as the axis says; in real time two threads train, and every average is
held back for so long.
"""

from __future__ import annotations

import loosestep as ls
from bench.papers.drawing import Ends
from bench.papers.study import Contender, Study
from bench.papers.tables import ACCURACY, Across, Column, last
from loosestep.transport import Transport

PERIOD, STEP = 8, 1e-3
LENGTHS = (0, 2, 4, 8, 16)
METHODS: dict[str, ls.Strategy] = {
    "local SGD": ls.LocalSGD(PERIOD),
    "DaSGD, lerp, 4 steps late": ls.DaSGD(PERIOD, 4),
    "DaSGD, correct, 4 steps late": ls.DaSGD(PERIOD, 4, "correct"),
    "CoCoD-SGD": ls.CoCoDSGD(PERIOD),
    "Overlap-Local-SGD": ls.OverlapLocalSGD(PERIOD),
}
SECONDS = Column("seconds", last("seconds"), ".3f")


def virtual(length: int) -> Transport:
    """An average of four workers is six messages one after the other."""
    return ls.Simulated(4, step_time=STEP, latency=length * STEP / 6, bandwidth=float("inf"))


def real(length: int) -> Transport:
    return ls.Delayed(ls.Threads(2), seconds=length * STEP)


STUDY = Study(
    tuple(
        Contender(label, strategy, ls.Nesterov(0.02, 0.9), on=on, steps=steps, panel=panel, at=length)
        for panel, carrier, steps in (("virtual time", virtual, 1600), ("real time", real, 400))
        for length in LENGTHS
        for label, strategy in METHODS.items()
        for on in (carrier(length),)
    ),
    evaluations=1,
    pictures=(
        Ends("milliseconds that an average takes", SECONDS, logarithmic=False),
        Ends("milliseconds that an average takes", ACCURACY, logarithmic=False),
    ),
    tables=(Across("ms", SECONDS), Across("ms", ACCURACY)),
)

FINDINGS = """
"""
