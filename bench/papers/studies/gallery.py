"""The gallery: every method in one configuration

Four workers on links of 1 Gbit/s with 0.1 ms latency, gradient steps of 1 ms with log-normal durations (sigma
0.3), in virtual time. Every method has the defaults of its class, the same network, the same batches, and SGD
without momentum, so that the momentum of an outer step is not multiplied by another one; its rate is the best of
three on a seed that is not shown (around 0.1, or around what the method is made for), so that a method is not
judged by the gain of its outer step. A period is 32 steps at most: 800 steps hold too few longer ones, and
evaluations are 32 steps apart, so that most are at the end of a round. Methods are found by scanning the package.
One whose losses are those of another, to the last bit, says of which.
"""

from __future__ import annotations

from dataclasses import MISSING, fields, replace

import loosestep as ls
from bench.papers.drawing import Dots
from bench.papers.study import Study
from bench.papers.tables import ACCURACY, COLUMNS, Column, Plain, first_at
from bench.papers.types import Contender
from loosestep.cli.compared_methods import at_rates

LONGEST = 32  # local steps of a period
OLDEST = (ls.AllReduceSGD, ls.LocalSGD, ls.Downpour, ls.CDSGD)  # first, so that others are said to be as these
ON = ls.Simulated(4, latency=1e-4, bandwidth=1.25e8, stragglers=ls.stragglers.LogNormal(0.3))


def methods() -> list[ls.Strategy]:
    """Every public strategy with its defaults; an example of what has none."""
    public = (getattr(ls, name) for name in ls.__all__)
    kinds = {value for value in public if isinstance(value, type) and issubclass(value, ls.Strategy)}
    return [
        made(kind) for kind in sorted(kinds - {ls.Strategy}, key=lambda kind: (kind not in OLDEST, kind.__name__))
    ]


def made(kind: type[ls.Strategy]) -> ls.Strategy:
    complete = all(item.default is not MISSING or item.default_factory is not MISSING for item in fields(kind))
    found = kind() if complete else kind.example()
    return replace(found, period=LONGEST) if getattr(found, "period", 0) > LONGEST else found


def contender(strategy: ls.Strategy) -> Contender:
    tried = tuple((strategy, each) for each in at_rates(strategy.made_for or ls.SGD(0.1)))
    return Contender(repr(strategy), strategy, ls.SGD(0.1), ON, steps=800, tried=tried)


TARGET = 0.82
REACHED = tuple(
    Column(f"{title} to {TARGET:.0%}", first_at(name, TARGET), ".3g", scale)
    for name, title, scale in (
        ("seconds", "virtual s", 1.0),
        ("bytes", "MB", 1e-6),
        ("samples", "thousand samples", 1e-3),
    )
)
STUDY = Study(
    tuple(map(contender, methods())),
    evaluations=25,
    pictures=(Dots((ACCURACY, *REACHED), logarithmic=tuple(column.title for column in REACHED), least=82.0),),
    tables=(Plain((*COLUMNS[:2], *COLUMNS[3:5], *REACHED), rates=True, copies=True),),
)
FINDINGS = """
**Seconds.** The links carry the model in 1.6 ms, more than a step takes, so whoever sends it at every step
waits: S-SGD needs 1 s to 82%, those that send seldom 0.2 to 0.7 s. Methods whose every push and pull passes the
center's one link (`Downpour` and those built on it, `RoundRobinEASGD`, `RoundRobinADMM`) are slowest.

**Outer momentum** (`BMUF`, `SlowMo`) is first in accuracy and in seconds: at a rate that suits one step it makes
longer ones. `DecoupledDiLoCo` takes such a step when all learners have left a fragment (85.5 to 85.9%); with a
quorum of one, for every learner that has, it was the least steady (79.5 to 84.8%). `MomentumDownpour` counts a
step as (1 - momentum) steps, and so is where `Downpour` is; with `scale=1.0`, the paper's form, it does not learn
at this rate (11.6%).

**Alike by construction.** In 1,000 steps of workers that are equally fast on average, `PostLocalSGD` has not
switched, `DBS` shares batches out alike and `AdaptiveLocalSGD` stays at period 1: all are S-SGD, the last with
a small message more. Nobody is late enough for `SSP`, `WeedOut` and `PartiallySynchronous` to differ from
`Downpour`; `FedAvg` with all clients is `LocalSGD`.

**What evaluating hides.** An evaluation averages replicas without sending bytes, so methods whose model is that
mean look well between their exchanges: `OneShotAveraging` sends nothing until its end, and `DiLoCo` (period
500) only twice.
"""
