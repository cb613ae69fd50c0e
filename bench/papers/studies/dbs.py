"""DBS: batches shared out by speed, with unequal workers and with a disturbance

Four workers train an MLP(64) on Fashion-MNIST by synchronous SGD with momentum 0.9, in batches of 192 rows.
A row takes 0.1 ms of a worker of speed 1, links are of 1 Gbit/s with 0.1 ms latency, in virtual time. In the first
panel worker 3 computes three times as fast as the others; in the second all are alike, but worker 0 is three times
slower from step 600 until step 1200. DBS measures every 50 steps.
"""

from __future__ import annotations

import loosestep as ls
from bench.papers.drawing import Curves
from bench.papers.study import Study
from bench.papers.tables import ACCURACY, SECONDS, TRAINING_LOSS, Column, Plain
from bench.papers.types import Contender
from loosestep.transports.simulated.stragglers import Stragglers

WORKERS: dict[str, Stragglers] = {
    "speeds 1, 1, 1, 3": ls.stragglers.SlowWorker(rank=3, factor=1 / 3),
    "disturbed from step 600 to 1200": ls.stragglers.SlowPeriod(rank=0, factor=3.0, first=600, last=1200),
}
METHODS = {
    "AllReduceSGD, equal shares": ls.AllReduceSGD(),
    "DBS": ls.DBS(),
    "DBS, smoothed": ls.DBS(smoothing=0.5),
    "LocalSGD(4), equal shares": ls.LocalSGD(4),
    "DBS of LocalSGD(4)": ls.DBS(ls.LocalSGD(4), every=12),
}


def until(step: int) -> Column:
    """Virtual seconds when that step was made."""
    return Column(
        f"virtual s to step {step}", lambda points: next((p["seconds"] for p in points if p["step"] >= step), None)
    )


STUDY = Study(
    contenders=tuple(
        Contender(
            name,
            strategy,
            ls.Momentum(0.02),
            ls.Simulated(
                4, step_time=0.0, sample_time=1e-4, latency=1e-4, bandwidth=1.25e8, stragglers=stragglers
            ),
            steps=1800,
            batch=48,
            panel=panel,
        )
        for panel, stragglers in WORKERS.items()
        for name, strategy in METHODS.items()
    ),
    evaluations=30,
    pictures=(Curves((("seconds", "step"), ("seconds", "test_accuracy"))),),
    tables=(Plain((until(600), until(1200), SECONDS, ACCURACY, TRAINING_LOSS)),),
)
FINDINGS = """
A step of S-SGD takes 4.8 ms for the 48 rows of a slow worker and 3 ms for the mean; with DBS slow workers take
32 rows, the fast one 96, and all compute for 3.2 ms. So computing is the 1.5 times faster that 0.25 n / 0.167 n
says, and a run 13.4 / 10.6 = 1.26 times, since the links are as slow as before; where `LocalSGD(4)` averages
every fourth step it is 9.82 / 7.02 = 1.40 times. While worker 0 is disturbed equal shares cost 16.8 ms a step and
DBS 9.1 ms, and within one measurement of 50 steps after it is over all take equal shares again; smoothing makes
both changes slower, and gains nothing where measurements have no noise. Accuracy after equal numbers of rows
differs by less than seeds do: the gradient is that of the same batch, whoever takes which part.

In the plot of speeds 1, 1, 1, 3 the line of DBS lies under that of the smoothed DBS; until step 600 of the
disturbed runs lines of the same strategy lie on each other, for all workers are alike there.
"""
