"""The gallery: every method in one configuration

Four workers on links of 1 Gbit/s with 0.1 ms latency, gradient steps of 1 ms with log-normal durations (sigma
0.3), in virtual time. Every method has the defaults of its class, the same network, the same batches, and SGD
without momentum, so that the momentum of an outer step is not multiplied by another one; its rate is the best of
three on a seed that is not shown (around 0.1, or around what the method is made for), so that a method is not
judged by the gain of its outer step. A period is 32 steps at most: 800 steps hold too few longer ones, and
evaluations are 32 steps apart, so that most are at the end of a round. Methods are found by scanning the package.
One whose losses are those of another, in all six digits that are kept, says of which.
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
waits: S-SGD needs 0.95 s to 82 %, most that send seldom or little 0.2 to 0.5 s. Least is needed by
`ErrorFeedback` (0.19 s: top-k of gradients), `SlowMo`, `BMUF` (0.22) and `DiLoCo` (0.25). Methods whose every push
and pull passes the center's one link (`Downpour` and those built on it, `Ringmaster`, `Ringleader`, the round
robins) are slowest, and `GradientTracking`, which sends twice as much.

**Bytes.** To 82 % S-SGD sends 75 MB, `SparseLoCo` 0.054, `DecoupledDiLoCo`, `SPARTA`, `LOSCAR`,
`StreamingDiLoCo`, `ErrorFeedback` and `DeMo` 0.8 to 1.3. An arrow at the left end is nothing at all: `Hogwild` has
one memory, and `OneShotAveraging` sends nothing until its end, since an evaluation averages replicas without
sending. Of all that mix or meet seldom (gossip, `SPARTA`, periods that do not divide 32) the mean of replicas is
shown, too, which an average more would make.

**Rates.** `Downpour` and what is built on it add up the steps of four workers, and took a third of the rate,
as did `DiLoCo`, whose outer step gains 7 times; `GPA`, `SNOO` and `ErrorFeedback` took three times the rate, the
highest tried, and so may have more in them. `GPA` (86.5 %) and `ErrorFeedback` (86.1 %) are first in accuracy for
that reason as well.

**Alike by construction**, as the last column says: workers that are equally fast on average give `SSP`,
`WeedOut` and `PartiallySynchronous` nothing to do, and `DBS` nothing to share out; 800 steps are too few for
`PostLocalSGD` to switch; `AdaptiveLocalSGD` stays at period 1; `FedAvg` with all clients is `LocalSGD`,
`Hierarchical` with its defaults S-SGD, `DPSGD` the rule of `CDSGD`, `DownpourMCMC` with an optimizer that owes no
noise `Downpour`. `DESLOC` is `LocalSGD(32)` with SGD, which has no moments to average.

**Behind.** `PSOPS` (69 %) moves workers to the best of them instead of their mean, and is far behind at all three
rates. `HALoS` (80.6 ± 2.7 %) and `HeLoCo` (83.5 %) have outer momentum at the center, where late steps of all
workers add up. `GoSGD` (82.9 %) meets seldom. Two were behind before their defaults were mended, at the same
three rates: `EagerDiLoCo` (82.2 ± 1.5 %, one run of three never at 82 %; now 84.1 ± 0.2 %) swung, for an outer
gradient that is a round late does not bear an outer momentum of 0.9, and its default is 0.5; `GradientTracking`
(82.8 %; now 84.8 %) had to take a third of the rate of others on a ring with weights 1/3, for it bears (1 + l)^2
/ 4 of S-SGD's, a ninth there, l being the smallest eigenvalue of W, and four ninths on a `Lazy` ring, which is
its default.
"""
