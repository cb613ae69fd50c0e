"""SpeeDO's ways to wait, with one worker of four that is four times slower

SpeeDO's master lets workers march in step, run free, run free within bounds, or weeds out what comes too late,
and its fifth mode is EASGD, which its authors found best (Z. Zheng, W. Jiang, G. Wu, E. Chang, LearningSys
workshop at NIPS 2015). Which is furthest after the same time? Four workers, the last of which needs 4 ms for a
step where the others need 1 ms (durations log-normal besides, sigma 0.2), 1.5 virtual seconds, Fashion-MNIST
with 2 x 2 pixels pooled, MLP(32), batches of 16 a worker. Each mode has the best of five rates. The bound of SSP
is 4 steps, that of the partially synchronous mode a period of 4, the queue of the weed-out mode 4 pushes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import mean

import loosestep as ls
from bench.papers.drawing import Curves
from bench.papers.study import Study, train
from bench.papers.tables import SENT, Column, Plain, first_at, last
from bench.papers.types import Contender, Point, Run
from loosestep.data.models import MLP

SECONDS = 1.5
RATES = (0.0125, 0.025, 0.05, 0.1, 0.2)
SLOW = ls.Simulated(4, stragglers=ls.stragglers.SlowWorker(3, 4.0, ls.stragglers.LogNormal(0.2)))
MODES = {
    "in step (S-SGD)": ls.AllReduceSGD(),
    "free (DOWNPOUR)": ls.Downpour(1),
    "within bounds (SSP)": ls.SSP(4),
    "partially synchronous": ls.PartiallySynchronous(4),
    "weed-out": ls.WeedOut(queue=4),
    "EASGD, period 1": ls.EASGD(1),
    "EASGD, period 10": ls.EASGD(10),
}


def measure(contender: Contender, seed: int, every: int) -> Run:
    """Train for as long as every other; what slower workers do after that to end at one step does not count."""
    run = train(contender, seed, every, lambda seen: seen.seconds >= SECONDS)
    return replace(run, points=[at for at in run.points if at["seconds"] <= 1.05 * SECONDS] or run.points[-1:])


def at_the_end(name: str) -> Callable[[Sequence[Point]], float | None]:
    """Return the mean over the evaluations of the last 0.3 s."""
    return lambda points: mean(
        [at[name] for at in points if at["seconds"] > points[-1]["seconds"] - 0.3 and name in at]
    )


ACCURACY = Column("test accuracy, %", at_the_end("test_accuracy"), ".2f", 100)
STUDY = Study(
    tuple(
        Contender(
            label,
            strategy,
            on=SLOW,
            steps=2000,
            batch=16,
            model=MLP(32),
            data="fashion-mnist, pooled",
            tried=tuple((strategy, ls.SGD(rate)) for rate in RATES),
        )
        for label, strategy in MODES.items()
    ),
    evaluations=100,
    pictures=(Curves((("seconds", "test_accuracy"), ("samples", "test_accuracy")), limits=(0.7, 0.86)),),
    tables=(
        Plain(
            (
                ACCURACY,
                Column("test loss", at_the_end("test_loss"), ".4f"),
                Column("virtual s to 82 %", first_at("seconds", 0.82)),
                Column("thousand samples", last("samples"), ".3g", 1e-3),
                SENT,
            )
        ),
    ),
    measure=measure,
    best=ACCURACY.of,
)
FINDINGS = """
## What it shows

- **Who waits for the slow worker is far behind.** S-SGD, SSP and the partially synchronous mode see 24 thousand
  samples in 1.5 s, those that do not wait 74 to 78 thousand, and end 2 to 3 points below them. Bounds help for
  as long as it takes to use them up: after that all move with the slowest, and the steps of the others are older
  than in S-SGD.
- **EASGD is not shown to be best.** It ends where DOWNPOUR does (82.5 and 82.4 %, within the spread), with the
  smaller spread; DOWNPOUR is first at 82 %, for its steps add up. What EASGD has besides: with period 10 it is
  0.3 points lower for a tenth of the bytes, where DOWNPOUR fails ([EASGD and EAMSGD against
  DOWNPOUR](easgd.md)). The paper trained GoogLeNet on four machines, for longer.
- **Weeding out** drops what the slow worker sends, one step in thirteen: after equal time nothing is lost and
  nothing gained by it at the best rate.
- The rate that is best in each mode is part of the comparison: 0.05 for DOWNPOUR and weed-out, 0.2 for EASGD and
  S-SGD.
"""
