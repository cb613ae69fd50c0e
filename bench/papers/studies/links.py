"""Links: seconds and bytes to an accuracy, at 10, 100 and 1,000 Mbit/s with 5 and 50 ms

Which method is first at an accuracy on which link, and what does it send? Eight workers with links of their own
train; a step takes 0.25 s and a model has 100 million parameters of 4 bytes. An average of all of them between
eight workers takes 5.6 s at 1,000 Mbit/s, 22 steps' time; 56 s at 100 Mbit/s; and 9 minutes, 2,240 steps' time, at
10 Mbit/s.

What is learnt is that of a network of 25,450 parameters, MLP(32) on Fashion-MNIST, in 512 steps of 32 rows a
worker; seconds and bytes are those of 100 million parameters, by `loosestep.predict`. Losses of methods whose
workers meet in steps that are known beforehand do not depend on the link, so one course of losses is priced on all
six. Each course that was tried was begun again on the slowest link: its losses were the same to the last bit, and
its seconds those that `predict` says of it, else there would be no page. `EASGD`, where order of arrival decides,
was run on each link, with its bandwidth divided as the model is, so that a message takes as long as one of 100
million parameters.

Every method had four settings for each link (`EASGD` two): two periods (or codecs, graphs) and two rates, or four
rates, and is shown with the one that was first at 83 % on a seed that is not shown. The local optimizer is the
method's usual one. Evaluations are 16 steps apart; of methods that meet seldom only those count at which a round
ends, so that no mean of replicas is shown that nobody has. Those that gossip are shown by the mean of their
replicas, which at the end costs an average more. What is sent counts what a center sends to a worker. Coding takes
no time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import mean, stdev
from typing import Any, ClassVar, cast

import numpy as np

import loosestep as ls
from bench.papers.drawing import style
from bench.papers.study import Study, rows_of, train
from bench.papers.tables import ABSENT, Column, first_at, head, rate, row, values
from bench.papers.types import Contender, Found, Picture, Point, Run, Table
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
        told.append({**at, "seconds": float(f"{seconds:.6g}"), "bytes": float(f"{sent:.6g}")})
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


# --- tables and pictures ---------------------------------------------------------------------------------


def reached(name: str, title: str, target: float, scale: float = 1.0) -> Column:
    return Column(f"{title} to {target:.0%}", first_at(name, target), ".3g", scale)


SECONDS, SENT = reached("seconds", "virtual s", TARGETS[-1]), reached("bytes", "GB", TARGETS[-1], 1e-9)


def shown(column: Column) -> Callable[[Contender, Sequence[Run]], str]:
    """Return mean and spread in full numbers, of what all seeds have reached."""

    def text(contender: Contender, runs: Sequence[Run]) -> str:
        there = values(column, runs)
        if len(there) < len(runs):
            return f"{ABSENT} ({len(there)} of {len(runs)})" if there else ABSENT
        spread = stdev(there) if len(there) > 1 else 0.0
        return f"{plain(mean(there), 3)} ± {plain(spread, 2)}" if spread else plain(mean(there), 3)

    return text


def plain(number: float, digits: int) -> str:
    return f"{float(f'{number:.{digits}g}'):,.10g}"


def chosen(contender: Contender, runs: Sequence[Run]) -> str:
    """Return what was best of that which was tried, where it differs."""
    several = len({strategy for strategy, _ in METHODS[contender.label]}) > 1
    names = ("period", "params", "fraction", "topology", "codec")
    strategy: Any = contender.strategy
    own = [f"{getattr(strategy, name)!r}" for name in names if hasattr(strategy, name)] if several else []
    return ", ".join([*own[:1], rate(contender)])


@dataclass(frozen=True)
class ByLink(Table):
    """A row a method, a column a link."""

    title: str
    of: Callable[[Contender, Sequence[Run]], str]

    def lines(self, found: Found) -> Iterator[str]:
        links = sorted({(each.at or 0.0, each.panel) for each in found}, key=lambda link: (link[0], len(link[1])))
        yield f"{self.title}:\n"
        yield from head(["method", *(f"{speed:g} Mbit/s, {delay}" for speed, delay in links)])
        rows: dict[str, dict[object, str]] = {}
        for each, runs in found.items():
            rows.setdefault(each.label, {})[each.at or 0.0, each.panel] = self.of(each, runs)
        for name, cells in rows.items():
            yield row([name, *(cells.get(link, ABSENT) for link in links)])


@dataclass(frozen=True)
class AgainstSpeed(Picture):
    """A line a method across bandwidths, named where it ends."""

    column: Column
    legend: ClassVar[bool] = False

    def height(self, part: Found) -> float:
        return 5.2

    def columns(self) -> int:
        return 1

    def draw(self, axes: Sequence[Any], found: Found) -> None:
        (place,) = axes
        ends: dict[str, tuple[float, float, str]] = {}
        for number, name in enumerate(METHODS):
            there = {
                each.at or 0.0: values(self.column, runs)
                for each, runs in found.items()
                if each.label == name and len(values(self.column, runs)) == len(runs)
            }
            line = [(at, mean(one)) for at, one in sorted(there.items())]
            if line:
                look = style(number)
                place.plot(*zip(*line, strict=True), **look)
                ends[name] = (*line[-1], look["color"])
        place.set(xscale="log", xlabel="Mbit/s of a worker's link", ylabel=self.column.title)
        if ends:
            place.set_yscale("log")
        place.set_xticks(SPEEDS, [f"{speed:g}" for speed in SPEEDS])
        beside(place, ends)


def beside(place: Any, ends: dict[str, tuple[float, float, str]]) -> None:
    """Write names at the right edge, as near to the ends of their lines as they do not touch."""
    low, high = (place.transData.transform((1, y))[1] for y in place.get_ylim())
    height, least = high - low, 0.048
    wanted = {name: (place.transData.transform((1, y))[1] - low) / height for name, (_, y, _) in ends.items()}
    at = -1.0
    spots = {}
    for name in sorted(wanted, key=lambda name: wanted[name]):
        at = spots[name] = max(wanted[name], at + least)
    over = max(0.0, at - 1.0)
    for name, (x, y, color) in ends.items():
        place.annotate(
            name, (x, y), xytext=(1.08, spots[name] - over), textcoords="axes fraction", color=color,
            fontsize="x-small", va="center", arrowprops={"arrowstyle": "-", "color": color, "alpha": 0.4},
        )  # fmt: skip


@dataclass(frozen=True)
class Front(Picture):
    """Bytes against seconds at each bandwidth; who needs more of both than another is grey."""

    across: Column
    up: Column
    legend: ClassVar[bool] = False

    def height(self, part: Found) -> float:
        return 4.8

    def columns(self) -> int:
        return len(SPEEDS)

    def draw(self, axes: Sequence[Any], found: Found) -> None:
        for place, speed in zip(axes, SPEEDS, strict=True):
            dots = {}
            for each, runs in found.items():
                both = [values(column, runs) for column in (self.across, self.up)]
                if each.at == speed and all(len(one) == len(runs) for one in both):
                    dots[each.label] = (mean(both[0]), mean(both[1]))
            best = front(dots)
            stairs = np.array(sorted(dots[name] for name in best)).reshape(-1, 2)
            place.plot(*stairs.T, color="#0072B2", alpha=0.4, zorder=0)
            for name, dot in dots.items():
                color = "#0072B2" if name in best else "#777777"
                place.plot(*dot, "o", color=color, markersize=5 if name in best else 3)
                place.annotate(name, dot, xytext=(4, 3), textcoords="offset points", fontsize=6.5, color=color)
            title = f"{self.across.title}, at {speed:g} Mbit/s"
            place.set(xlabel=title, ylabel=self.up.title)
            if dots:
                place.set(xscale="log", yscale="log")
            place.margins(x=0.25)


def front(dots: dict[str, tuple[float, float]]) -> set[str]:
    """Return who is not behind another in both."""
    return {
        name
        for name, (x, y) in dots.items()
        if not any(a <= x and b <= y and (a, b) != (x, y) for a, b in dots.values())
    }


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
    pictures=(AgainstSpeed(SECONDS), Front(SENT, SECONDS)),
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
"""
