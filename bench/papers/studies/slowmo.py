"""SlowMo against local SGD, each at its own rate: where a slow momentum helps

Is local SGD with a slow momentum more accurate than local SGD at the same bytes (J. Wang, V. Tantia, N. Ballas,
M. Rabbat, arXiv:1910.00643)? With short periods and few workers a slow momentum b is a rate 1 / (1 - b) times as
large, and a tuned rate has that already; the paper has 32 workers and periods of 12 and more. Asked on both
sides: 4 workers with period 4, and 16 workers with period 48. 960 steps of 16 rows a worker, Fashion-MNIST,
MLP(64), Nesterov momentum 0.9, virtual time. Each method has the best of six settings: local SGD of six rates,
SlowMo of three rates with b = 0.5 and 0.7. "keep" leaves the fast momentum as it is at the end of a round,
"reset" (the paper's choice for SGD) zeroes it.
"""

from __future__ import annotations

import loosestep as ls
from bench.papers.drawing import Curves
from bench.papers.study import Study
from bench.papers.tables import ACCURACY, SECONDS, SENT, TEST_LOSS, Plain
from bench.papers.types import Contender
from loosestep.optimizers import Optimizer

Tried = tuple[tuple[ls.Strategy, Optimizer], ...]


def methods(period: int) -> dict[str, Tried]:
    local = tuple(
        (ls.LocalSGD(period), ls.Nesterov(rate, 0.9)) for rate in (0.0025, 0.005, 0.01, 0.02, 0.04, 0.08)
    )
    pairs = [(rate, slow) for rate in (0.005, 0.01, 0.02) for slow in (0.5, 0.7)]
    kept = tuple((ls.SlowMo(period, slow, momentum="keep"), ls.Nesterov(rate, 0.9)) for rate, slow in pairs)
    reset = tuple((ls.SlowMo(period, slow, momentum="reset"), ls.Nesterov(rate, 0.9)) for rate, slow in pairs)
    return {"local SGD": local, "SlowMo, keep": kept, "SlowMo, reset": reset}


STUDY = Study(
    tuple(
        Contender(
            label,
            ls.LocalSGD(period),
            on=ls.Simulated(workers, latency=1e-4, bandwidth=1.25e8),
            steps=960,
            batch=16,
            panel=f"{workers} workers, period {period}",
            tried=tried,
        )
        for workers, period in ((4, 4), (16, 48))
        for label, tried in methods(period).items()
    ),
    pictures=(Curves((("seconds", "test_accuracy"), ("seconds", "test_loss"))),),
    tables=(Plain((ACCURACY, TEST_LOSS, SECONDS, SENT)),),
)
FINDINGS = """
## What it shows

- **With 16 workers and periods of 48 steps the slow momentum is ahead of the best local SGD**, in every seed:
  the paper's shape. It costs nothing to send. The first two rounds it is behind, while its buffer fills.
- **With 4 workers and periods of 4 it is not**: a mean every fourth step leaves nothing for a slow momentum to
  add that a larger rate would not, and rates that suit local SGD are too large with it. This is why [the page on
  local SGD](local_sgd.md), where all methods have one rate, has SlowMo behind at period 4.
- **Keep or reset** makes no difference that three seeds show with long periods. With short ones resetting takes
  most of the fast momentum away, and so lets rates be larger.
"""
