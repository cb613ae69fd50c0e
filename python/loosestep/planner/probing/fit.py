"""What measured patterns mean: latency, bandwidth, and the prices of messages."""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from loosestep.lowering import forms
from loosestep.requests.links import Links
from loosestep.transports.simulated.prices import Prices
from loosestep.transports.simulated.probe import Measurement, Probe

if TYPE_CHECKING:
    from loosestep.transports.base import Session, Transport

KEPT = 30  # seconds of steps that are kept for each worker
UNLIMITED = 1e12  # bytes a second, where no message is long enough to tell
MANY = 8  # repetitions, of which the longest is left out
LONG = 1.5  # one-way times of 8 bytes: what takes longer tells of bandwidth
ROUND_TRIP, ALL, RING, MIX = (
    "there and back",
    "exchange with all",
    "exchange with the next",
    "average with neighbours",
)
AVERAGE, TO_ONE, WAITS, COMPUTES = (
    "average over all",
    "all to one",
    "read from who waits",
    "read from who computes",
)
ALONE, BESIDE = "step alone", "step beside an average"
WITHIN = "within a host: "
"""Names of patterns, and what goes before those of patterns within a host."""


def fitted(
    on: Transport, session: Session, rows: Iterable[Mapping[str, Any]], steps: Sequence[Sequence[float]],
    update: float, seconds: float,
) -> Probe:  # fmt: skip
    """Return the cluster on which these patterns take so long."""
    measured = merged(rows)
    hosts = tuple(len(host) for host in session.hosts) or ((1,) * on.size if on.virtual else (on.size,))
    between, inside = of_links(measured, "", session.links), of_links(measured, WITHIN, None)
    sharded = len(session.hosts) > 1 if not on.virtual else getattr(on, "center", "") == "shards"
    return Probe(
        n=on.size,
        hosts=hosts,
        transport=repr(on),
        machine=f"{processor()}, {platform.system()} {platform.release()}",
        latency=between.latency,
        bandwidth=between.bandwidth,
        prices=replace(between.prices, update=short(update)),
        center="shards" if sharded else "apart",
        steps=tuple(alike(each) for each in steps),
        host_latency=inside.latency if inside.known else None,
        host_bandwidth=inside.bandwidth if inside.known else None,
        measured=tuple(measured),
        seconds=seconds,
    )


def merged(rows: Iterable[Mapping[str, Any]]) -> list[Measurement]:
    """Return what repetitions took, the mean over workers, without what they waited for the longest step."""
    groups: dict[tuple[str, int, int], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["pattern"], row["nbytes"], row["together"]].append(row)
    found = []
    for key, group in groups.items():
        times = np.mean([row["times"] for row in group], axis=0)
        steps = np.array([row["steps"] for row in group])
        if key[0] in (ALONE, BESIDE):
            taken = np.sort(steps.mean(axis=0))
        else:
            taken = np.sort(times - (steps.max(axis=0) - steps.mean(axis=0)))
        kept = taken[: -1 if len(taken) >= MANY else None]
        found.append(Measurement(*key, float(kept.mean()), float(kept.std()), len(kept)))
    return found


def alike(seconds: Sequence[float]) -> tuple[float, ...]:
    """Return at most KEPT numbers, equally frequent: the means of so many parts of all, from short to long."""
    ordered = np.sort(seconds)
    if len(ordered) > KEPT:
        ordered = ordered[np.linspace(0, len(ordered) - 1, len(ordered) // KEPT * KEPT).round().astype(int)]
    parts = np.array_split(ordered, min(KEPT, len(ordered)))
    return tuple(short(part.mean()) for part in parts)


def short(value: float) -> float:
    """Return a number with as many digits as are measured."""
    return float(f"{value:.5g}")


@dataclass(frozen=True)
class Fit:
    """Links, and what else messages cost on them."""

    latency: float = 0.0
    bandwidth: float = UNLIMITED
    prices: Prices = field(default_factory=Prices)
    known: bool = False


def of_links(measured: Sequence[Measurement], name: str, chosen_by: Links | None) -> Fit:
    """Return the links that the patterns of that name have used.

    Latency is half a round trip of 8 bytes, less what a message costs sender and receiver: half each of what one
    more receiver costs. Bandwidth is what large messages have beyond latency, in the pattern where that is most.
    All else that a pattern takes is the lag of a message of its size, sent with so many others.
    chosen_by: the links by which the form of a collective was chosen; None: by these.
    """
    mine = {
        (each.pattern.removeprefix(name), each.nbytes): each for each in measured if each.pattern.startswith(name)
    }
    if name == "":
        mine = {key: each for key, each in mine.items() if not each.pattern.startswith(WITHIN)}
    if (ROUND_TRIP, 8) not in mine:
        return Fit()
    n = 1 + mine[ALL, 8].together
    one_way = mine[ROUND_TRIP, 8].seconds / 2
    more = (mine[ALL, 8].seconds - mine[RING, 8].seconds) / (n - 2) if n > 2 else 0.0
    spent = min(max(0.0, more), one_way) / 2
    latency = one_way - 2 * spent
    sent = {name: [Sent.of(each) for (other, _), each in mine.items() if other == name] for name in (RING, MIX)}
    found = chosen_by or Links(latency, rate(sent.values(), one_way))
    averages = [Sent.of_average(each, n, found) for (pattern, _), each in mine.items() if pattern == AVERAGE]
    sent[AVERAGE] = [part for parts in averages for part in parts]
    bandwidth = rate(sent.values(), one_way)
    lags: dict[int, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for each in [part for parts in sent.values() for part in parts]:
        busy = max(each.nbytes / bandwidth, spent)
        known = latency + (1 + each.together) * spent + (each.together - 1) * busy + each.nbytes / bandwidth
        lags[each.together][each.nbytes].append(each.seconds - known)
    tables: list[tuple[tuple[float, float], ...]] = []
    for together in range(1, n):
        table = tuple((float(size), short(fmean(several))) for size, several in sorted(lags[together].items()))
        tables.append(table or tables[-1])
    prices = Prices(
        send=short(spent),
        receive=short(spent),
        turn=short(turn(mine)),
        contention=short(contention(mine)),
        inbound=inbound(mine, one_way, bandwidth),
        lag=tuple(tables),
    )
    return Fit(short(latency), short(bandwidth), prices, known=True)


class Sent(NamedTuple):
    """So many messages, sent together, and when all are there."""

    together: int
    nbytes: int
    seconds: float

    @classmethod
    def of(cls, each: Measurement) -> Sent:
        """Return the messages of an exchange."""
        return cls(each.together, each.nbytes, each.seconds)

    @classmethod
    def of_average(cls, each: Measurement, n: int, links: Links) -> list[Sent]:
        """Return the messages of an average, or none where each waits for the one before."""
        form = forms.of_all_reduce(n, each.nbytes, links)
        if form is forms.Form.WHOLE:
            return [cls.of(each)]
        return [cls(n - 1, each.nbytes // n, each.seconds / 2)] if form is forms.Form.DIRECT else []


def rate(sent: Iterable[Sequence[Sent]], one_way: float) -> float:
    """Return the most bytes a second that the largest messages of a pattern had, where they took long enough."""
    largest = [max(parts, key=lambda part: part.nbytes) for parts in sent if parts]
    rates = [
        each.together * each.nbytes / (each.seconds - one_way) for each in largest if each.seconds > LONG * one_way
    ]
    return max(rates, default=UNLIMITED)


def turn(mine: Mapping[tuple[str, int], Measurement]) -> float:
    """Return how much longer a worker that computes takes to answer than one that waits."""
    if (COMPUTES, 4) not in mine:
        return 0.0
    return max(0.0, mine[COMPUTES, 4].seconds - mine[WAITS, 4].seconds)


def contention(mine: Mapping[tuple[str, int], Measurement]) -> float:
    """Return the share by which a step is longer beside a communication."""
    steps = {pattern: each.seconds for (pattern, _), each in mine.items() if pattern in (ALONE, BESIDE)}
    return max(0.0, steps[BESIDE] / steps[ALONE] - 1) if len(steps) == 2 and steps[ALONE] else 0.0


def inbound(mine: Mapping[tuple[str, int], Measurement], one_way: float, bandwidth: float) -> float | None:
    """Return the bytes a second that come to one worker from all others; None where that was not measured.

    At least the bandwidth, with which messages come when each worker sends and receives as many.
    """
    n = 1 + mine[ALL, 8].together
    for (pattern, nbytes), each in mine.items():
        if pattern == TO_ONE and each.seconds > 2 * LONG * one_way:
            return short(max(bandwidth, (n - 1) * nbytes / (each.seconds - 2 * one_way)))
    return None


def processor() -> str:
    """Return the name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
