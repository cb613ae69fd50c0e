"""Links: seconds and bytes to an accuracy, at 10, 100 and 1,000 Mbit/s with 5 and 50 ms

Which method is first at an accuracy on which link, and what does it send? Eight workers with links of their own
train; a step takes 0.25 s and a model has 100 million parameters of 4 bytes. An average of all of them between
eight workers takes 5.6 s at 1,000 Mbit/s, 22 steps' time; 56 s at 100 Mbit/s; and 9 minutes, 2,240 steps' time, at
10 Mbit/s.

What is learnt is that of a network of 25,450 parameters, MLP(32) on Fashion-MNIST, in 512 steps of 32 rows a
worker; seconds and bytes are those of 100 million parameters, by `loosestep.predict`. Losses of methods whose
workers meet in steps that are known beforehand do not depend on the link, so one course of losses is priced on all
six. Each course that was tried was begun again on the slowest link, 64 steps of it: its losses were the same and
its seconds those that `predict` says of it, in all six digits that are kept, else there would be no page. `EASGD`,
where order of arrival decides, was run on each link, with its bandwidth divided as the model is, so that a message
takes as long as one of 100 million parameters.

Every method had four settings for each link (`EASGD` two): two periods (or codecs, graphs) and two rates, or four
rates, and is shown with the one that was first at 83 % on a seed that is not shown. The local optimizer is the
method's usual one. Evaluations are 16 steps apart; of methods that meet seldom only those count at which a round
ends, so that no mean of replicas is shown that nobody has. Those that gossip are shown by the mean of their
replicas, which at the end costs an average more. What is sent counts what a center sends to a worker. Coding takes
no time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import cache
from typing import Any, cast

import loosestep as ls
from bench.papers.by_link import AgainstSpeed, ByLink, Front, shown
from bench.papers.rows import rows_of
from bench.papers.study import Study, train
from bench.papers.tables import Column, first_at, rate
from bench.papers.types import Contender, Point, Run
from loosestep.data.models import MLP
from loosestep.optimizers import Optimizer

WORKERS, PARAMETERS, STEP = 8, 10**8, 0.25
MODEL = MLP(32)
SPEEDS, DELAYS = (10, 100, 1000), (5, 50)  # Mbit/s, ms
STEPS, EVERY, BEGUN = 512, 16, 64  # BEGUN: steps of a course that are made again
TARGETS = (0.8, 0.83)
PEERS = ls.OnePeerExponential()


def link(speed: float, delay: float) -> ls.Simulated:
    return ls.Simulated(WORKERS, STEP, delay * 1e-3, speed * 1e6 / 8, center="shards")


FAST, SLOW = link(SPEEDS[-1], DELAYS[0]), link(SPEEDS[0], DELAYS[-1])

# --- methods ---------------------------------------------------------------------------------------------

Tried = tuple[tuple[ls.Strategy, Optimizer], ...]


def every(made: Sequence[ls.Strategy], optimizers: Sequence[Optimizer]) -> Tried:
    return tuple((strategy, optimizer) for strategy in made for optimizer in optimizers)


def periods(made: Callable[[int], ls.Strategy], optimizers: Sequence[Optimizer]) -> Tried:
    return every([made(16), made(64)], optimizers)


def nesterov(*rates: float) -> list[Optimizer]:
    return [ls.Nesterov(each, 0.9) for each in rates]


ADAM = [ls.AdamW(0.002), ls.AdamW(0.006)]
LOCAL = nesterov(0.02, 0.05)
METHODS: dict[str, Tried] = {
    "AllReduceSGD": every([ls.AllReduceSGD()], nesterov(0.01, 0.02, 0.05, 0.1)),
    "AllReduceSGD, top-k": every(
        [ls.ErrorFeedback(codec=ls.TopK(share, width=16)) for share in (0.01, 0.002)], nesterov(0.02, 0.05)
    ),
    "DeMo": every([ls.DeMo()], [ls.SGD(each) for each in (0.0003, 0.001, 0.002, 0.004)]),
    "DPSGD": every([ls.DPSGD(ls.Ring()), ls.DPSGD(PEERS)], LOCAL),
    "OverlapSGP": every([ls.OverlapSGP(PEERS, each) for each in (4, 16)], LOCAL),
    "ChocoSGD": every(
        [ls.ChocoSGD(), ls.ChocoSGD(codec=ls.TopK(0.01, width=16), rate=0.05)], nesterov(0.01, 0.03)
    ),
    "LocalSGD": periods(ls.LocalSGD, LOCAL),
    "EASGD": periods(ls.EASGD, LOCAL[:1]),
    "DiLoCo": periods(ls.DiLoCo, ADAM),
    "MuLoCo": periods(lambda h: ls.DiLoCo(h, 0.7, 0.6), [ls.Muon.muloco(each) for each in (0.004, 0.01)]),
    "StreamingDiLoCo, 4 bits": periods(lambda h: ls.StreamingDiLoCo(h // 4, codec=ls.E3M0()), ADAM),
    "EagerDiLoCo": periods(lambda h: ls.EagerDiLoCo(h, 0.4, 0.3), ADAM),
    "SparseLoCo": periods(ls.SparseLoCo, ADAM),
    "NoLoCo": periods(lambda h: ls.NoLoCo(period=h), ADAM),
    "SPARTADiLoCo": every([ls.SPARTADiLoCo(share, 64) for share in (0.005, 0.02)], ADAM),
}


def round_of(strategy: ls.Strategy) -> int:
    """Return after how many local steps all workers, or pairs of them, have met."""
    names = ("period", "params", "outer")
    own = next((getattr(strategy, name) for name in names if hasattr(strategy, name)), 1)
    return int(own) if own >= EVERY else 1


def repeats(strategy: ls.Strategy) -> int:
    """Return local steps after which what is sent repeats; of graphs here a multiple of their three."""
    rounds = 4 if isinstance(strategy, ls.StreamingDiLoCo) else 2
    changes = isinstance(getattr(strategy, "topology", None), ls.OnePeerExponential)
    return max(48 if changes else EVERY, rounds * round_of(strategy))


# --- prices ----------------------------------------------------------------------------------------------


@cache
def price(strategy: ls.Strategy, optimizer: Optimizer, on: ls.Simulated, steps: int) -> tuple[float, float]:
    """Return the seconds and bytes of a worker until so many steps of the large model are made.

    What repeats is predicted twice: the first time has a beginning, the second is as all that follow.
    """
    cycle = repeats(strategy)
    if steps > 2 * cycle:
        times, rest = divmod(steps, cycle)
        seconds, sent = price(strategy, optimizer, on, cycle + rest)
        ends = [price(strategy, optimizer, on, each) for each in (cycle, 2 * cycle)]
        more = times - 1
        return seconds + more * (ends[1][0] - ends[0][0]), sent + more * (ends[1][1] - ends[0][1])
    found = ls.predict(strategy, PARAMETERS, on, steps=steps, optimizer=optimizer)
    return found.seconds, found.bytes_sent + found.bytes_fetched


def bare(optimizer: Optimizer) -> Optimizer:
    """Return an optimizer of which only the buffers count."""
    return cast("Optimizer", replace(cast("Any", optimizer), rate=1.0))


def simulated(contender: Contender) -> ls.Simulated:
    return cast("ls.Simulated", contender.on)


def priced(contender: Contender, points: Sequence[Point]) -> list[Point]:
    """Return the evaluations at the end of rounds (or the last one), with seconds and bytes of the large model."""
    told: list[Point] = []
    ends = [at for at in points if int(at["step"]) % round_of(contender.strategy) == 0]
    for at in ends or points[-1:]:
        seconds, sent = price(contender.strategy, bare(contender.optimizer), simulated(contender), int(at["step"]))
        kept = {name: at[name] for name in ("step", "test_accuracy")}
        told.append({**kept, "seconds": float(f"{seconds:.6g}"), "bytes": float(f"{sent:.6g}")})
    return told


# --- courses ---------------------------------------------------------------------------------------------


def density(contender: Contender) -> float:
    data = rows_of(contender.data, contender.rows)
    return PARAMETERS / contender.model.build(data.features, data.classes).size


def scaled(contender: Contender, on: ls.Simulated) -> Contender:
    """Return a contender whose messages take as long on `on` as those of the large model, and nothing else."""
    on = replace(on, bandwidth=cast("float", on.bandwidth) / density(contender))
    return replace(contender, on=on, label="", panel="", at=None, tried=())


@cache
def course(contender: Contender, seed: int, every: int) -> Run:
    return train(contender, seed, every)


def prove(contender: Contender, seed: int, every: int) -> None:
    """Raise AssertionError unless losses are the same on the slowest link, and seconds are those of `predict`."""
    fast, slow = scaled(contender, FAST), replace(scaled(contender, SLOW), steps=min(contender.steps, BEGUN))
    again = course(slow, seed, every)
    for one, other in zip(course(fast, seed, every).points, again.points, strict=False):
        for name in ("loss", "test_accuracy", "test_loss"):
            assert one.get(name) == other.get(name), (contender, name, one, other)
    last, parameters = again.points[-1], round(PARAMETERS / density(contender))
    rule, steps = contender.strategy, int(last["step"])
    found = ls.predict(rule, parameters, simulated(slow), steps=steps, optimizer=contender.optimizer)
    assert last["seconds"] == float(f"{found.seconds:.6g}"), (contender, last, found)


def measure(contender: Contender, seed: int, every: int) -> Run:
    """Train once for all links, or where none waits for another on each, and price that."""
    alike = contender.strategy.synchronous
    found = course(scaled(contender, FAST if alike else simulated(contender)), seed, every)
    if alike and seed == STUDY.tuning_seed and not found.diverged:
        prove(contender, seed, every)
    points = priced(contender, found.points)
    if not alike:  # it is seen when rank 0 is there, not the last worker
        seconds = {at["step"]: at["seconds"] for at in found.points}
        points = [{**at, "seconds": seconds[at["step"]]} for at in points]
    return Run(contender.setting, seed, points, found.diverged)


def soonest(points: Sequence[Point]) -> float:
    """Return what is greatest where the higher target is reached first; if never, where most is reached."""
    there = first_at("seconds", TARGETS[-1])(points)
    return -there if there is not None else 100 * points[-1]["test_accuracy"] - 1e9


# --- the page --------------------------------------------------------------------------------------------


def reached(name: str, title: str, target: float, scale: float = 1.0) -> Column:
    return Column(f"{title} to {target:.0%}", first_at(name, target), ".3g", scale)


SECONDS, SENT = reached("seconds", "virtual s", TARGETS[-1]), reached("bytes", "GB", TARGETS[-1], 1e-9)


def chosen(contender: Contender, runs: Sequence[Run]) -> str:
    """Return what was best of that which was tried, where it differs: the first such setting, and the rate."""
    tried: list[Any] = [strategy for strategy, _ in METHODS[contender.label]]
    names = [field.name for field in fields(tried[0]) if len({getattr(each, field.name) for each in tried}) > 1]
    return ", ".join([*(repr(getattr(contender.strategy, name)) for name in names[:1]), rate(contender)])


STUDY = Study(
    tuple(
        Contender(
            name,
            *tried[0],
            link(speed, delay),
            steps=STEPS,
            model=MODEL,
            panel=f"{delay} ms",
            at=speed,
            tried=tried,
        )
        for name, tried in METHODS.items()
        for delay in DELAYS
        for speed in SPEEDS
    ),
    evaluations=STEPS // EVERY,
    pictures=(AgainstSpeed((reached("seconds", "virtual s", TARGETS[0]), SECONDS)), Front(SENT, SECONDS, SPEEDS)),
    tables=(
        *(
            ByLink(column.title, shown(column))
            for column in (reached("seconds", "virtual s", TARGETS[0]), SECONDS, SENT)
        ),
        ByLink("Chosen: period (fraction, graph or codec), where several were tried, and rate", chosen),
    ),
    measure=measure,
    best=soonest,
)

FINDINGS = """
## What it shows

- **Below 1,000 Mbit/s bytes decide.** At 10 and 100 Mbit/s methods come in nearly the order of what they send.
  `SparseLoCo` is first: at 10 Mbit/s 371 s to 83 %, against 1,440 for the next (top-k of every gradient), 2,880
  for `LocalSGD(64)` and 62,700 for `AllReduceSGD`; it sends 0.37 GB, they 1.7, 3.5 and 78. At 100 Mbit/s it takes
  106 s, of which its steps alone take 76.
- **At 1,000 Mbit/s many are as good as links without cost.** `MuLoCo` (65 s), `ChocoSGD` (68), `DeMo` (72),
  `OverlapSGP` (76) and `SparseLoCo` (79) lie within two spreads of each other, `AllReduceSGD` takes 629 s: an
  average still takes as long as 22 steps. What sends least is not first there, since sparse messages need more
  steps. On the front of bytes and seconds are `SparseLoCo` and `MuLoCo` alone.
- **50 ms are paid by those that send little at every step**, and only at 1,000 Mbit/s: `SPARTADiLoCo` takes 20 %
  longer than with 5 ms, `ChocoSGD`, top-k and `DeMo` 9 to 10 %; methods with a period, and those that send all
  parameters, 0 to 3 %.
- **`MuLoCo` before `DiLoCo`** on every link, 2.1 times sooner: it is at 83 % after three rounds of 64 steps,
  `DiLoCo` with AdamW inside after five to seven (outer momenta are 0.6 and 0.9, as usual). **`NoLoCo`** sends half
  an average to one peer, and is 1.6 times sooner than `DiLoCo` at 10 Mbit/s, 1.1 times at 1,000.
- **The slower the link, the less is sent by what is best**: fragments of `StreamingDiLoCo` meet every 64 instead
  of 16 steps, workers of `NoLoCo` likewise, top-k keeps 0.2 instead of 1 %. `LocalSGD`, `DiLoCo` and `MuLoCo` took
  the longer period everywhere.

## What does not appear

- **Hiding an average of all parameters gains little here.** `EagerDiLoCo` is level with `DiLoCo` at 1,000 Mbit/s
  (sooner at 80 %: 53 against 65 s), and takes four times as long at 10 and 100: an outer gradient that is a round
  late allows only a small outer momentum and short rounds, 16 steps, in which no such average can be hidden. Its
  outer momentum is 0.3 here; with the default of 0.9 it swung, and ended at 56 to 75 % in all four settings on the
  seed that is not shown. The paper's gain is for rounds that go little of the way to the minimum.
- **`EASGD` is slow**: with a moving rate of 0.9 / 8 its center follows for many exchanges, and with period 64 it
  was just below 83 % at the end of the run with which it was tuned.

## How far to trust it

Workers are alike and none is late, which is what gossip and elastic averaging are for. Targets are read off
evaluations 16 steps apart, or rounds: a spread of nothing means that all seeds came there in the same round. Of
two or four rates an end was chosen by most methods, so that each has more in it. A small network needs few steps,
so that outer optimizers make 8 to 32 of theirs; a large one gives them thousands. No time for coding is counted,
and nothing is said of the accuracy after long training ([compressed](compressed.md) does). Runs were made side by
side on two cores with much else to do, so that their minutes count others' too: of processor time they took about
7 minutes.
"""
