"""SD-FEEL: servers that gossip instead of a cloud that averages, and devices of different speed.

15 devices in 5 clusters of 3 train MLP(32) on Fashion-MNIST, 400 steps of 16 rows each, in virtual time. Devices
are unlike: a step takes 10 ms in two of the clusters, 15, 20 and 40 ms in the others, and scatters by a fifth. A
device reaches its server at 100 Mbit/s and 2 ms, servers reach each other at 100 Mbit/s and 10 ms. The cloud is 50
ms away, and its one link of 50 Mbit/s is shared out evenly among those that use it: 15 devices for FedAvg, 5
servers for the hierarchy. In SD-FEEL and in the hierarchy clusters average every 5 steps, and every 20 steps
servers gossip on a ring, or all are averaged: in the cloud, or among the servers, as if each reached all others.
Asked: does SD-FEEL take less virtual time to an accuracy than FedAvg and than the hierarchy through the cloud;
does it need more steps than the hierarchy; what does the asynchronous one gain?

Every method is shown with the best of SGD's rates 0.05, 0.1 and 0.2 (FedAvg: of periods 5 and 20, too), by virtual
time to 80 %, where that is not reached to 70 %, or else by accuracy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import loosestep as ls
from bench.papers.drawing import Curves
from bench.papers.study import Study
from bench.papers.tables import ACCURACY, SECONDS, SENT, Column, Plain, first_at
from bench.papers.types import Contender, Point
from loosestep.data.models import MLP
from loosestep.transports.simulated.stragglers import Measured

CLUSTERS, CLIENTS, STEP = 5, 3, 1e-2
NEAR, SEVERAL = 5, 20  # steps between two averages of a cluster, and of all
MEGABIT = 1.25e5  # bytes a second
CLOUD = 50 * MEGABIT
RATES = (0.05, 0.1, 0.2)
SPEEDS = (1.0, 1.0, 1.5, 2.0, 4.0)  # of the clusters' steps
UNLIKE = Measured(tuple((0.8 * by, by, 1.2 * by) for by in SPEEDS for _ in range(CLIENTS)))


def devices() -> ls.Simulated:
    """Return devices that know the cloud alone."""
    n = CLUSTERS * CLIENTS
    return ls.Simulated(n, STEP, 0.05, CLOUD / n, stragglers=UNLIKE)


def clusters(latency: float, bandwidth: float) -> ls.Simulated:
    """Return clusters whose servers reach each other by such links."""
    return ls.Simulated(
        CLUSTERS * CLIENTS,
        STEP,
        latency,
        bandwidth,
        center_bandwidth=float("inf"),  # what servers leave is at the servers
        stragglers=UNLIKE,
        hosts=(CLIENTS,) * CLUSTERS,
        host_latency=2e-3,
        host_bandwidth=100 * MEGABIT,
    )


def methods() -> Iterator[tuple[str, tuple[ls.Strategy, ...], ls.Simulated]]:
    """Label, strategies to try, and links."""
    far, near = clusters(0.05, CLOUD / CLUSTERS), clusters(1e-2, 100 * MEGABIT)
    hierarchy = ls.HierarchicalLocalSGD(((NEAR, CLIENTS), (SEVERAL, None)))
    gossip = partial(ls.SDFEEL, ls.Ring(), CLIENTS, NEAR, rounds=SEVERAL // NEAR)
    yield "FedAvg, in the cloud", (ls.FedAvg(NEAR), ls.FedAvg(SEVERAL)), devices()
    yield "hierarchy, in the cloud", (hierarchy,), far
    yield "hierarchy, servers reach all", (hierarchy,), near
    yield "SD-FEEL, ring", (gossip(),), near
    yield "SD-FEEL, ring, mixes 3 times", (gossip(gossip=3),), near
    yield "SD-FEEL, ring, asynchronous", (gossip(mode="asynchronous"),), near
    yield "the same, mixes every 5 steps", (gossip(rounds=1, mode="asynchronous"),), near


def soonest(points: Sequence[Point]) -> float | None:
    """Return more for less time to 80 %, less than for any such time for one to 70 %, else the accuracy."""
    for goal, worth in ((0.8, 2e6), (0.7, 1e6)):
        seconds = first_at("seconds", goal)(points)
        if seconds is not None:
            return worth - seconds
    return ACCURACY.of(points)


STUDY = Study(
    tuple(
        Contender(
            label,
            strategies[0],
            ls.SGD(RATES[0]),
            on,
            steps=400,
            batch=16,
            model=MLP(32),
            by_label=by_label,
            panel=panel,
            tried=tuple((strategy, ls.SGD(rate)) for strategy in strategies for rate in RATES),
        )
        for panel, by_label in (("data alike", False), ("labels of their own", True))
        for label, strategies, on in methods()
    ),
    evaluations=20,
    pictures=(Curves((("step", "test_accuracy"), ("seconds", "test_accuracy"))),),
    tables=(
        Plain(
            (
                ACCURACY,
                Column("steps to 70 %", first_at("step", 0.7), ".4g"),
                Column("virtual s to 70 %", first_at("seconds", 0.7)),
                Column("steps to 80 %", first_at("step", 0.8), ".4g"),
                Column("virtual s to 80 %", first_at("seconds", 0.8)),
                SECONDS,
                SENT,
            )
        ),
    ),
    best=soonest,
)

FINDINGS = """
## What it shows

- **SD-FEEL is faster than FedAvg in the cloud and than the hierarchy through it**, where data is alike: 80 % after
  8.8 virtual seconds, against 15.1 and 10.3. A device that is four times as slow as others dominates all of the
  synchronous ones: its 400 steps take 16 of the 18.8 seconds; only the rest differs.
- **At equal links the hierarchy takes as many steps, or fewer.** Were every server in reach of all others,
  averaging would take 9.0 seconds to 80 %, as many steps as gossip, and with labels of their own 9.6 seconds to 70
  % where one round of gossip on a ring takes 14.2: half as many steps again, and it ends 4 points lower. So there
  plain SD-FEEL is also behind FedAvg (13.8 seconds) and the hierarchy through the cloud (11.1): what a ring of
  five leaves apart in one round costs more than the slow link. **Mixing three times mends that**: 8.6 seconds to
  70 %, 73.7 % at the end, as the hierarchy's, for a second more of the clock.
- **Asynchronous, it is 1.5 times as fast again where data is alike**: 5.7 seconds to 80 %, for 0.3 points at the
  end. The curve ends flat: the fast clusters have made their steps after 9 seconds, and wait for the slow one.
- **With labels of their own the asynchronous one fails: 52 %.** The slowest cluster alone knows two of the labels,
  and by the rule its model weighs less the later it is, while fast ones go on without it. It is the speeds: with
  devices alike (one run of seed 0, not in the table) it ends at 72.5 %, the synchronous one at 68.3 %. Mixing
  after every average instead of every fourth does not help: 51 % here, and 11 seconds to 80 % where data is alike,
  since each time two models are fetched. The paper reports a gain; there devices of a slow cluster make fewer
  steps between two deadlines of its own, and here every device makes all its steps. Whether that is the difference
  is not known.

Seeds spread by 2 to 4 seconds with labels of their own, which is more than FedAvg, the hierarchies and SD-FEEL
that mixes three times are apart there; where data is alike SD-FEEL and the hierarchies cross 80 % at the same
steps, so that their order is that of their links. With labels of their own no method reaches 80 % in 400 steps.
Settings are of our choosing, not the paper's, whose links and speeds could not be verified. The means over servers
and clusters are checked in `tests/papers/test_sdfeel.py`.
"""
