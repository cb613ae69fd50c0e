"""Data stalls: what a cache that never evicts, and jobs that prepare together, gain a training

A loop that waits for its data is faster with a cache that keeps what it has, as least-recently-used caches (LRU:
the system's page cache) do not in random order, and several jobs on one host are faster if each batch is
prepared once for all (J. Mohan, A. Phanishayee, A. Raniwala, V. Chidambaram, arXiv:2007.06775, with gains of up
to 5 times). By how much? Logistic regression on the 1,437 digits, 4 epochs in batches of 32, through
`data.MinIOCache` or an LRU cache of as many rows; then K jobs, threads of one process, each with a loader of its
own or together a `data.CoordinatedLoader`. Hits and preparations are counted in these; time is virtual, computed
batch by batch with prices of ours: a row takes 0.25 ms of the step, in the first panel 1 ms to fetch if it is
not in the cache and 0.1 to prepare, one after the other, by a loader that is at most 4 batches ahead; in the
second panel all rows are in memory, take 1 ms of a core to prepare, and the host has 4 cores, whose time jobs
share alike; staged are at most 8 batches. Each batch's times are drawn within 20 % of that. Measured: the same
loop in real time, in which a thread sleeps 1 ms for each row that the cache lacks and 0.1 ms for each that it
prepares, and the step sleeps as well. Seconds are those of an epoch after the first.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from queue import Queue
from typing import Any

import numpy as np
from numpy.typing import NDArray

import loosestep as ls
from bench.papers.drawing import Ends
from bench.papers.rows import rows_of
from bench.papers.study import Study
from bench.papers.tables import ACCURACY, Across, Column
from bench.papers.types import Contender, Found, Picture, Point, Run
from loosestep.data import CoordinatedLoader, Dataset, MinIOCache
from loosestep.data.models import Softmax
from loosestep.requests import Request
from loosestep.requests.worker import Worker
from loosestep.strategies.base import State

Array = NDArray[Any]
EPOCHS, BATCH, AHEAD, SLOTS, CORES, SPREAD = 4, 32, 4, 8, 4, 0.2
STEP, FETCH, PREP, SLOW_PREP = 0.25e-3, 1e-3, 0.1e-3, 1e-3  # seconds of a row
SHARES, JOBS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 0.9, 1.0), (1, 2, 4, 8)
CACHE, TOGETHER = "a cache", "several jobs"
NAMES = count()


@dataclass(frozen=True, repr=False)
class Cached(ls.Strategy):
    """A job that reads through a cache of a share of the rows, as the setting of a contender."""

    kind: str  # MinIO or LRU
    share: float
    sleeps: bool = False

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        raise TypeError("the study makes the steps")


@dataclass(frozen=True, repr=False)
class Jobs(ls.Strategy):
    """So many jobs, each for itself or together."""

    jobs: int
    together: bool

    def round(self, worker: Worker, state: State) -> Iterator[Request]:
        raise TypeError("the study makes the steps")


class Rows:
    """A map-style data set."""

    def __init__(self, data: Dataset) -> None:
        self.data = data
        self.x, self.y = data.x_train.astype(np.float32), data.y_train

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, number: int) -> tuple[Array, int]:
        return self.x[number], int(self.y[number])


class Slow(Rows):
    """Sleeps for as long as a row takes to fetch."""

    def __getitem__(self, number: int) -> tuple[Array, int]:
        time.sleep(FETCH)
        return super().__getitem__(number)


class LRU:
    """Keeps the rows that were asked for last."""

    def __init__(self, rows: Rows, room: int) -> None:
        self.rows, self.room, self.hits = rows, room, 0
        self.kept: OrderedDict[int, tuple[Array, int]] = OrderedDict()

    def __getitem__(self, number: int) -> tuple[Array, int]:
        if number in self.kept:
            self.hits += 1
            self.kept.move_to_end(number)
            return self.kept[number]
        sample = self.kept[number] = self.rows[number]
        if len(self.kept) > self.room:
            self.kept.popitem(last=False)
        return sample


def stacked(samples: Sequence[tuple[Array, int]]) -> tuple[Array, Array]:
    return np.stack([x for x, _ in samples]), np.array([y for _, y in samples])


def draws(seed: int, *shape: int) -> Array:
    """Return factors of times."""
    return np.random.default_rng([seed, *shape]).uniform(1 - SPREAD, 1 + SPREAD, shape)


def alone(loads: Array, steps: Array) -> Array:
    """Return when each step of one job ends: its loader is at most AHEAD batches before it."""
    begun, ends = np.zeros(len(steps)), np.zeros(len(steps))
    ready = end = 0.0
    for number, (load, step) in enumerate(zip(loads, steps, strict=True)):
        ready = max(ready, begun[number - AHEAD] if number >= AHEAD else 0.0) + load
        begun[number] = max(ready, end)
        end = ends[number] = begun[number] + step
    return ends


def shared(loads: Array, steps: Array) -> Array:
    """Return when each step ends, (job, batch): job b % K prepares batch b, in a slot that all have left."""
    jobs, batches = steps.shape
    ready, begun, ends = np.zeros(batches), np.zeros((jobs, batches)), np.zeros((jobs, batches))
    for number in range(batches):
        own = ready[number - jobs] if number >= jobs else 0.0
        free = begun[:, number - SLOTS].max() if number >= SLOTS else 0.0
        ready[number] = max(own, free) + loads[number]
        begun[:, number] = np.maximum(ready[number], ends[:, number - 1] if number else 0.0)
        ends[:, number] = begun[:, number] + steps[:, number]
    return ends


def opened(rule: Cached, rows: Rows) -> Any:
    """Return a cache with room for a share of the rows."""
    one = MinIOCache(rows, 1 << 20)
    one[0]
    size = one.stats().bytes  # of one row, as it is kept
    room = round(rule.share * len(rows))
    return MinIOCache(rows, room * size) if rule.kind == "MinIO" else LRU(rows, room)


def orders(count: int, seed: int) -> list[list[Array]]:
    """Return the numbers of each epoch's batches."""
    every = [np.random.default_rng([seed, epoch]).permutation(count) for epoch in range(EPOCHS)]
    return [np.split(order, range(BATCH, count, BATCH)) for order in every]


def through_a_cache(rule: Cached, rows: Rows, seed: int, seen: list[Any]) -> list[Point]:
    """Read all epochs through the cache; return for each its hits and when it ended."""
    cache = opened(rule, rows)
    hits, loads, lengths = [0], [], []
    for epoch in orders(len(rows), seed):
        for batch in epoch:
            before = hits_of(cache)
            seen.append(stacked([cache[int(number)] for number in batch]))
            lengths.append(len(batch))
            loads.append(PREP * len(batch) + FETCH * (len(batch) - hits_of(cache) + before))
        hits.append(hits_of(cache))
    times = draws(seed, 2, len(loads))
    ends = alone(np.array(loads) * times[0], STEP * np.array(lengths) * times[1])
    return told(ends[None], {"hits": np.diff(hits) / len(rows)})


def in_real_time(rule: Cached, rows: Rows, seed: int, seen: list[Any]) -> list[Point]:
    """Do the same by sleeping, in a thread that loads ahead and in the step; return when each epoch ended."""
    cache, queue, every = opened(rule, Slow(rows.data)), Queue[Any](AHEAD), orders(len(rows), seed)

    def load() -> None:
        for batch in (batch for epoch in every for batch in epoch):
            samples = stacked([cache[int(number)] for number in batch])
            time.sleep(PREP * len(batch))
            queue.put(samples)

    thread, began = threading.Thread(target=load, daemon=True), time.perf_counter()
    thread.start()
    ends = []
    for epoch in every:
        for batch in epoch:
            seen.append(queue.get(timeout=60))
            time.sleep(STEP * len(batch))
        ends.append(time.perf_counter() - began)
    return [{"seconds": end} for end in ends]


def hits_of(cache: Any) -> int:
    return int(cache.stats().hits if isinstance(cache, MinIOCache) else cache.hits)


def several(rule: Jobs, rows: Rows, seed: int, seen: list[Any]) -> list[Point]:
    """Let jobs read all epochs; return for each the preparations and when the slowest job ended."""
    prepared: list[int] = []
    of_each = 1 if not rule.together else rule.jobs
    taken: dict[int, list[Any]] = {job: [] for job in range(rule.jobs)}

    def prepare(batches: Sequence[list[int]]) -> Iterator[Any]:
        for numbers in batches:
            prepared.append(len(numbers))
            yield stacked([rows[number] for number in numbers])

    def read(job: int, name: str) -> None:
        place = job if rule.together else 0
        options: dict[str, Any] = {"epochs": EPOCHS, "job": place, "jobs": of_each, "name": name, "seed": seed}
        with CoordinatedLoader(
            rows, BATCH, prepare=prepare, capacity=1 << 20, slots=SLOTS, deadline=60, **options
        ) as own:
            taken[job] = [batch for _ in range(EPOCHS) for batch in own]

    name = f"study {os.getpid()} {next(NAMES)}"
    names = [name if rule.together else f"{name}, job {job}" for job in range(rule.jobs)]
    threads = [threading.Thread(target=read, args=(job, each)) for job, each in enumerate(names)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen += taken[0]
    lengths = np.array([len(y) for _, y in seen])
    wanted = {job: sum(len(y) for _, y in batches) for job, batches in taken.items()}
    if set(wanted.values()) != {EPOCHS * len(rows)}:
        raise AssertionError(f"a job has not seen all rows: {wanted}")
    loads = SLOW_PREP * rule.jobs / CORES * lengths
    times = draws(seed, rule.jobs + 1, len(lengths))
    steps = STEP * lengths * times[:-1]
    if rule.together:
        ends = shared(loads * times[-1], steps)
    else:
        others = draws(seed, rule.jobs, len(lengths), 2)[..., 0]
        ends = np.array([alone(loads * own, mine) for own, mine in zip(others, steps, strict=True)])
    each = sum(prepared) / EPOCHS / len(rows)
    return told(ends, {"prepared": np.full(EPOCHS, each)})


def told(ends: Array, more: dict[str, Array]) -> list[Point]:
    """Return a point an epoch: when the slowest job ended it."""
    of_epoch = ends.max(axis=0).reshape(EPOCHS, -1)[:, -1]
    return [
        {"seconds": of_epoch[epoch], **{name: values[epoch] for name, values in more.items()}}
        for epoch in range(EPOCHS)
    ]


def measure(contender: Contender, seed: int, every: int) -> Run:
    """Read, and train on what was read; a point an epoch."""
    rule, data = contender.strategy, rows_of(contender.data)
    rows = Rows(data)
    seen: list[Any] = []
    if isinstance(rule, Cached):
        points = (in_real_time if rule.sleeps else through_a_cache)(rule, rows, seed, seen)
    else:
        assert isinstance(rule, Jobs)
        points = several(rule, rows, seed, seen)
    classifier = Softmax().build(data.features, data.classes)
    result = ls.run(
        ls.AllReduceSGD(), classifier.gradient, classifier.init(seed), lambda rank, size: iter(seen),
        optimizer=ls.SGD(0.1), on=ls.Serial(),
    )  # fmt: skip
    points[-1] = {**points[-1], **classifier.evaluate(result.params, data.test)}
    return Run(
        contender.setting, seed,
        [{name: float(f"{value:.6g}") for name, value in at.items()} for at in points],
    )  # fmt: skip


def contenders() -> Iterator[Contender]:
    for share in SHARES:
        for label in ("MinIO", "LRU"):
            yield Contender(label, Cached(label, share), data="digits", at=share, panel=CACHE)
    for share in (0.5, 0.8):
        for label in ("MinIO", "LRU"):
            rule = Cached(label, share, sleeps=True)
            yield Contender(f"{label}, measured", rule, data="digits", at=share, panel=CACHE)
    for jobs in JOBS:
        for label, together in (("each for itself", False), ("together", True)):
            yield Contender(label, Jobs(jobs, together), data="digits", at=jobs, panel=TOGETHER)


def of_epoch(points: Sequence[Point]) -> float:
    """Return the seconds of an epoch after the first."""
    return (points[-1]["seconds"] - points[0]["seconds"]) / (len(points) - 1)


def later(name: str) -> Any:
    """Return the mean over epochs after the first."""
    return lambda points: sum(at[name] for at in points[1:]) / (len(points) - 1) if name in points[0] else None


HITS = Column("hits after the first epoch, %", later("hits"), ".2f", 100)
EPOCH = Column("seconds of an epoch", of_epoch, ".3f")
PREPARED = Column("preparations of a row in an epoch", later("prepared"), ".3g")


@dataclass(frozen=True)
class Beside(Picture):
    """What is counted, and beside it the seconds."""

    def columns(self) -> int:
        return 2

    def draw(self, axes: Sequence[Any], found: Found) -> None:
        jobs = next(iter(found)).panel == TOGETHER
        setting = "jobs" if jobs else "share of the rows that a cache holds"
        for place, column in zip(axes, (PREPARED if jobs else HITS, EPOCH), strict=True):
            Ends(setting, column, logarithmic=jobs).draw([place], found)
            place.set_ylim(bottom=0)
        if not jobs:
            share = np.linspace(0, 0.999, 200)
            law = share + (1 - share) * np.log(1 - share)
            axes[0].plot(share, 100 * law, color="#777777", linewidth=1, zorder=0)
            least = len(Rows(rows_of("digits"))) * STEP
            axes[1].axhline(least, color="#777777", linewidth=1, zorder=0)


@dataclass(frozen=True)
class OfPanel(Across):
    """The table of one panel."""

    panel: str = ""

    def lines(self, found: Found) -> Iterator[str]:
        yield from super().lines({each: runs for each, runs in found.items() if each.panel == self.panel})


STUDY = Study(
    tuple(contenders()),
    pictures=(Beside(),),
    tables=tuple(
        OfPanel(setting, column, panel)
        for setting, panel, columns in (
            ("share", CACHE, (HITS, EPOCH, ACCURACY)),
            ("K =", TOGETHER, (PREPARED, EPOCH, ACCURACY)),
        )
        for column in columns
    ),
    measure=measure,
)  # fmt: skip
FINDINGS = """
## What it shows

- **The cache that never evicts hits exactly as often as it has rows**: 50.00 % with half of them. LRU has 15.7 %
  there and follows its law, c + (1 - c) ln(1 - c), the grey line, to 0.6 points.
- **An epoch is 1.6 times as fast with half of the rows in it as with LRU**, 2.1 times with 80 %, 1.7 with 90 %.
  From 85 % on the step waits for nothing (grey: computing alone), where LRU waits until everything fits; without
  a cache an epoch takes 4.3 times as long. `data.stalls.Rates` predicts MinIO's column to 1 %.
- **Measured it is 1.5 and 2.0 times** with 50 and 80 % of the rows: 1.05 and 0.52 s with MinIO, 1.59 and 1.03
  with LRU. All are 17 to 23 % above virtual time: a sleep wakes late, on two cores that others used (a load of
  3).
- **Jobs that prepare together prepare each row once**, and not K times; 2, 4 and 8 jobs are 2.0, 3.9 and 7.1
  times as fast, since their 4 cores together are just as fast as one job's step. With 8 jobs each batch takes
  longer, and 8 slots are what a round needs. One job gains nothing, and loses 1 %.
- **Nothing else changes**: the batches, and so all accuracies, are the same.

How large a gain is depends on prices: with a step as long as fetching and preparing a row there is none. These
are of our choosing; hits, preparations and accuracies are those of the library's cache and loader. The jobs'
seconds are virtual only. What a loop waits for is found by `loosestep stalls` ([Data that comes in
time](../data.md)).
"""
