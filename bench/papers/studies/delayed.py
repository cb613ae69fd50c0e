"""Delayed averaging: communication that takes the time of several steps, hidden behind them.

Workers train an MLP on Fashion-MNIST and average every 8 local steps. Asked: how does the time of a run grow
with the time of an average, where the workers wait for it (local SGD), and where it arrives 4 steps (DaSGD) or 8
steps later (CoCoD-SGD, Overlap-Local-SGD); and what does the delay cost in accuracy? In virtual time four
workers make steps of 1 ms. In real time two threads do; every average is held back, and a gradient takes 20 ms,
most of them asleep, as if another device computed: so the two cores of the machine, and who else is on them,
matter little.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import loosestep as ls
from bench.papers.drawing import Ends
from bench.papers.rows import rows_of
from bench.papers.study import Study, batches, point, train
from bench.papers.tables import ACCURACY, Across, Column, last
from bench.papers.types import Contender, Point, Run
from loosestep.transports.base import Transport

PERIOD, VIRTUAL_STEP, REAL_STEP = 8, 1e-3, 20e-3
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
    """An average of four workers takes one message to everybody."""
    return ls.Simulated(4, step_time=VIRTUAL_STEP, latency=length * VIRTUAL_STEP, bandwidth=float("inf"))


def real(length: int) -> Transport:
    return ls.Delayed(ls.Threads(2), seconds=length * REAL_STEP)


def padded(gradient: Callable[[Any, Any], Any], x: Any, batch: Any) -> Any:
    """A gradient that takes as long as a step, at least."""
    until = time.perf_counter() + REAL_STEP
    found = gradient(x, batch)
    time.sleep(max(0.0, until - time.perf_counter()))
    return found


def measure(contender: Contender, seed: int, every: int) -> Run:
    """In real time with padded steps; only the end is looked at."""
    if contender.on.virtual:
        return train(contender, seed, every)
    data, points = rows_of(contender.data, contender.rows), list[Point]()
    classifier = contender.model.build(data.features, data.classes)
    ls.run(
        contender.strategy,
        partial(padded, classifier.gradient),
        classifier.init(seed),
        batches(contender, data, seed),
        optimizer=contender.optimizer,
        steps=contender.steps,
        on=contender.on,
        evaluate=lambda params: classifier.evaluate(params, data.test),
        callback=lambda at: points.append(point(at)),
    )
    return Run(contender.setting, seed, points)


STUDY = Study(
    tuple(
        Contender(label, strategy, ls.Nesterov(0.02, 0.9), on=carrier(length), steps=steps, panel=panel, at=length)
        for panel, carrier, steps in (("virtual time", virtual, 1600), ("real time", real, 80))
        for length in LENGTHS
        for label, strategy in METHODS.items()
    ),
    evaluations=1,
    pictures=(Ends("steps that an average takes", SECONDS, logarithmic=False),),
    tables=(Across("steps", SECONDS), Across("steps", ACCURACY)),
    measure=measure,
)

FINDINGS = """
## What it shows

- **A round takes the longer of the two, and not their sum.** In virtual time local SGD's run grows by the whole
  time of every average, a run with a delay of d steps not at all until an average takes d steps; from there all
  grow alike. DaSGD 4 steps late is at 1.600 s for averages of up to 4 steps, CoCoD-SGD and Overlap-Local-SGD for
  averages of up to 8, where local SGD takes 2.4 and 3.2 s. In the plot both lines of DaSGD lie on each other, and
  that of CoCoD-SGD lies under that of Overlap-Local-SGD.
- **So it is in real time**: with averages of 8 steps 3.42 s for local SGD, 2.41 for DaSGD, 1.76 and 1.74 for the
  two that have 8 steps, against 1.6 s of bare steps. Others computed on the two cores meanwhile, which is the
  spread at 0 to 4 steps.
- **What it costs in accuracy** after 1600 steps: 0.1 points for DaSGD that corrects, within the spread, 0.6 for
  lerp and for Overlap-Local-SGD, 0.7 for CoCoD-SGD. The time that an average takes does not matter to it: when
  it is merged is counted in steps. 80 steps, as in real time, are the beginning of training, where a delay costs
  more.

## Processes of one host

There a started average goes on in a thread of the core while the workers compute (docs/design.md, "Host memory").
Two processes average 1 Mi parameters every second step; a gradient takes 10 to 110 ms, asleep, each process in an
order of its own, so that one waits for the other wherever they meet. The naps alone last 2.400 s, with a meeting
every second step 2.869 s, with averages one step late 2.534 s, two steps late 2.400 s. Seconds of 5 alternated
runs each, on two cores that others kept busy (a load of 12, hence the spread; the least disturbed run says most);
hidden is what is saved of local SGD's meetings. Begun where they are waited for: as if nothing went on meanwhile.

| method | median | least | hidden, of the least | begun where waited for: median | least |
|---|---|---|---|---|---|
| without communication | 2.692 | 2.518 | 100% | 3.080 | 2.554 |
| local SGD | 3.313 | 3.022 | 0% | 3.059 | 2.992 |
| DaSGD, lerp, 1 step late | 3.122 | 2.765 | 51% (of 71% by the naps) | 3.497 | 3.236 |
| DaSGD, correct, 1 step late | 2.954 | 2.777 | 49% (of 71%) | 3.226 | 3.107 |
| CoCoD-SGD, 2 steps late | 3.010 | 2.703 | 63% (of 100%) | 3.112 | 3.074 |
| Overlap-Local-SGD, 2 late | 2.715 | 2.611 | 82% (of 100%) | 3.158 | 3.066 |

Made by `mpiexec -n 2 python -m bench.overlap` and the same with `--deferred`. What is hidden is waiting. An
average of large buffers in one host's memory is work for the processors, as merges are: with 16 Mi parameters on
two busy cores nothing was gained.
"""
