"""Large batches: steps to a target as the batch grows 64-fold

Four workers train an MLP(64) on 12,000 rows of Fashion-MNIST by synchronous SGD with momentum 0.9, in batches of
64 to 4096 rows. Every method has one rate for the reference batch of 64, chosen on seed 9 among a few, and a
rule for the others: the linear rule multiplies the rate by the growth of the batch, the root rule by its root.
Counted are steps until an evaluation first shows 83 % test accuracy, and the accuracy after 40 epochs: at every
size the methods see the same rows, so the largest batch makes 1/64 of the steps.
"""

from __future__ import annotations

import loosestep as ls
from bench.papers.drawing import Ends
from bench.papers.study import Contender, Study
from bench.papers.tables import ACCURACY, Across, Column, first_at
from loosestep.optimizers import Optimizer

ROWS, EPOCHS, REFERENCE, TARGET = 12_000, 40, 64, 0.83
SIZES = (64, 256, 1024, 4096)
STEPS = Column(f"steps to {TARGET:.0%}", first_at("step", TARGET), ".0f")


def per_epoch(size: int) -> int:
    return -(-ROWS // size)


def methods(size: int) -> dict[str, Optimizer]:
    """By name, at their rates for that batch."""
    growth = size / REFERENCE
    linear, root, epoch = RATE * growth, growth**0.5, per_epoch(size)
    return {
        "SGD, one rate": ls.Momentum(RATE),
        "SGD, linear rule": ls.Momentum(linear),
        "SGD, linear rule, warm-up": ls.Momentum(ls.Warmup(linear, 5 * epoch, start=RATE)),
        "RMSprop warm-up": ls.RMSpropWarmup(linear, rms_rate=RMS * root, center=3 * epoch, width=2 * epoch),
        "LARS": ls.LARS(ls.Warmup(LARS * root, epoch)),
        "LAMB": ls.LAMB(ls.Warmup(LAMB * root, epoch)),
    }


RATE, RMS, LARS, LAMB = 0.01, 3e-4, 5.0, 3e-3
ON = ls.Simulated(4, step_time=0.0, sample_time=1e-4, latency=1e-4, bandwidth=1.25e8)

STUDY = Study(
    contenders=tuple(
        Contender(
            name,
            ls.AllReduceSGD(),
            optimizer,
            ON,
            steps=EPOCHS * per_epoch(size),
            batch=size // ON.size,
            rows=ROWS,
            at=float(size),
        )
        for size in SIZES
        for name, optimizer in methods(size).items()
    ),
    evaluations=80,
    pictures=(Ends("rows in a batch", STEPS), Ends("rows in a batch", ACCURACY)),
    tables=(Across("batch", STEPS), Across("batch", ACCURACY)),
)
FINDINGS = ""
