"""`probe`: measures the cluster that a transport runs on, by patterns of messages and by steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from loosestep.foundation import buffers, checks
from loosestep.lowering.lowering import Lowering
from loosestep.optimizers.sgd import SGD
from loosestep.planner.probing import patterns
from loosestep.planner.probing.fit import (
    ALL,
    ALONE,
    AVERAGE,
    BESIDE,
    COMPUTES,
    MIX,
    RING,
    ROUND_TRIP,
    TO_ONE,
    WAITS,
    WITHIN,
    fitted,
)  # fmt: skip
from loosestep.planner.probing.patterns import Messages, Pattern
from loosestep.requests import AllReduce, Barrier, Gradient, Request, Start, Wait
from loosestep.requests.worker import Worker
from loosestep.runtime.run import run
from loosestep.strategies.local_sgd import LocalSGD
from loosestep.transports.base import ProcessTransport, Session, Task, Transport
from loosestep.transports.serial import Serial
from loosestep.transports.simulated.probe import Probe

if TYPE_CHECKING:
    from loosestep.requests import Buffer, Shared

T = TypeVar("T")

MIDDLE = 256 << 10  # bytes of the average beside which a step is timed
SIZES = (8, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 8 << 20)  # bytes
LADDERS: dict[str, tuple[Pattern, int]] = {
    RING: (patterns.ring, 1),
    MIX: (patterns.mix, 2),
    AVERAGE: (patterns.all_reduce, 0),
}
"""Patterns that are measured at every size, and how many messages a worker sends at once; 0: one to each other."""
LEAST, MOST = 4, 30  # repetitions that count
PATIENCE = 12  # a size that takes longer than 1/PATIENCE of the time for one repetition is the last of its ladder
STEPS, LARGE = 30, 2 << 20  # steps that are timed; parameters where the price of an update is looked for


def pause() -> None:
    """Compute nothing for 20 ms: a step that leaves the processor to others."""
    time.sleep(0.02)


def probe(on: Transport, *, seconds: float = 30.0, step: Callable[[], object] = pause) -> Probe:
    """Measure the cluster of a transport, and return what `Simulated.like` takes; every worker's process calls it.

    on: the transport. seconds: about how long to measure. step: what a worker does in a gradient step, called
    without arguments; by default it sleeps for 20 ms, which shows what messages cost where computation leaves the
    processor to them.

    Measures the seconds of steps on every worker at once; messages of 8 bytes to 8 MiB between neighbours, to two
    neighbours and in an average over all, as long as they are short enough; messages of all to one; and how long a
    worker that computes takes to answer. On one worker it measures only steps. The result is the same in every
    process. A repetition takes the mean over the workers of their seconds, less what they waited for a longer step
    of another; repetitions are averaged, without the first and without the longest of eight or more.

    Raises what a run raises where a worker is lost or late.

    >>> import loosestep as ls
    >>> cluster = ls.Simulated(4, step_time=0.01, latency=0.005, bandwidth=1.25e7)
    >>> found = ls.probe(cluster, seconds=0.2)
    >>> round(found.latency, 4), round(found.bandwidth, -5), round(found.step_time, 4)
    (0.005, 12500000.0, 0.01)
    """
    checks.instance("on", on, Transport)
    checks.positive("seconds", seconds)
    checks.callable_("step", step)
    began = time.perf_counter()
    steps, update = measured_steps(on, step)
    session = on.open()
    try:
        rows = Course(on, session, seconds, step).go()
        everywhere = session.all_gather_object("probe", lambda: {"rows": rows, "steps": steps, "update": update})()
    except BaseException as error:
        session.leave(error)
        raise
    session.leave(None)
    return fitted(
        on, session, [row for each in everywhere for row in each["rows"]],
        [row for each in everywhere for row in each["steps"]],
        fmean(each["update"] for each in everywhere), time.perf_counter() - began,
    )  # fmt: skip


# --- steps ---------------------------------------------------------------------------------------------------


def measured_steps(on: Transport, step: Callable[[], object]) -> tuple[list[list[float]], float]:
    """Return seconds of the steps of each worker of this process, and those of an update for each byte."""
    if on.virtual:
        return virtual_steps(on), 0.0
    small = durations(on, step, STEPS, 64)
    few = 5
    large, nothing = (fmean(map(fmean, durations(on, idle, few, size))) for size in (LARGE, 64))
    return small, max(0.0, large - nothing) / (4 * LARGE)


def idle() -> None:
    """Do nothing."""


def durations(on: Transport, step: Callable[[], object], count: int, parameters: int) -> list[list[float]]:
    """Return the seconds between gradients of each worker of this process, where none communicates."""
    place = Serial() if isinstance(on, ProcessTransport) else on
    begun: dict[int, list[float]] = {}
    nothing = np.zeros(parameters, np.float32)

    def gradient(x: Buffer, rank: int) -> Buffer:
        begun.setdefault(rank, []).append(time.perf_counter())
        step()
        return nothing

    def batches(rank: int, size: int) -> Iterator[int]:
        yield from [rank] * (count + 2)

    run(LocalSGD(count + 2), gradient, nothing, batches, optimizer=SGD(0.1), on=place)
    return [np.diff(times)[1:].tolist() for _, times in sorted(begun.items())]


def virtual_steps(on: Transport) -> list[list[float]]:
    """Return the virtual seconds of the first steps of each worker."""
    found: list[list[float]] = []

    def requests(worker: Worker, clock: Callable[[], float], times: list[float]) -> Iterator[Request]:
        for _ in range(4 * STEPS):
            began = clock()
            yield Gradient()
            times.append(clock() - began)

    def compute(worker: Worker, request: Request) -> int:
        worker.clock += 1
        return 1

    session = on.open()
    session.run(tasks(on, session, requests, compute, found))
    session.leave(None)
    return found


def tasks(
    on: Transport,
    session: Session,
    requests: Callable[[Worker, Callable[[], float], list[T]], Iterator[Request]],
    compute: Callable[[Worker, Request], int],
    found: list[list[T]],
) -> list[Task]:
    """Return a task for each worker of this process, with few parameters; each notes in a list of its own."""
    made = []
    for rank in session.ranks:
        worker = Worker(rank, on.size, buffers.zeros(16, "float32"), partial(session.share, rank))
        worker.links = session.links
        found.append([])
        lowering = Lowering(session.native, worker, session.unpriced, grouped=session.grouped, hosts=session.hosts)
        asked = lowering.lower(requests(worker, session.clock(rank), found[-1]))
        made.append(Task(worker, asked, partial(compute, worker)))
    return made


# --- messages ------------------------------------------------------------------------------------------------


@dataclass
class Timed:
    """The repetitions of one pattern by one worker."""

    pattern: str
    nbytes: int
    together: int
    times: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)  # before each

    def row(self) -> dict[str, Any]:
        """Return what other processes are told."""
        return {name: getattr(self, name) for name in ("pattern", "nbytes", "together", "times", "steps")}


class Course:
    """All patterns of this process's workers, one after the other; workers agree how often each is repeated."""

    def __init__(self, on: Transport, session: Session, seconds: float, step: Callable[[], object]) -> None:
        self.on, self.session, self.seconds, self.step = on, session, seconds, step
        self.n = on.size

    def go(self) -> list[dict[str, Any]]:
        """Let all workers of this process go through the course; return what each pattern took."""
        found: list[list[Timed]] = []
        self.session.run(tasks(self.on, self.session, self.requests, self.compute, found))
        return [each.row() for timed in found for each in timed if each.times]

    def compute(self, worker: Worker, request: Request) -> int:
        """Do what a gradient step does."""
        if not self.on.virtual:
            self.step()
        worker.clock += 1
        return 1

    def requests(self, worker: Worker, clock: Callable[[], float], timed: list[Timed]) -> Iterator[Request]:
        """Yield a worker's patterns: those between the first workers of all hosts, and within the largest host."""
        hosts = self.session.hosts
        shared = worker.shared("probe", buffers.zeros(1, "float32"))  # which all workers must make
        groups = [("", [host[0] for host in hosts])] if len(hosts) > 1 else [("", list(range(self.n)))]
        largest = max(hosts, key=len, default=())
        if 1 < len(largest) < self.n:
            groups.append((WITHIN, list(largest)))
        for name, ranks in groups:
            if len(ranks) > 1:
                share = self.seconds / len(groups) / (len(LADDERS) * len(SIZES) + 6)
                yield from self.patterns(Timing(worker, clock, timed, ranks, share, name, shared))

    def patterns(self, timing: Timing) -> Iterator[Request]:
        """Yield all patterns among some workers."""
        n, far = len(timing.ranks), not timing.name
        if far and n == self.n:
            yield from timing.measure(ALONE, patterns.nothing, 8, 0, paced=True)
            yield from timing.measure(BESIDE, patterns.all_reduce, MIDDLE, 0, paced=True, beside=True)
        yield from timing.measure(ROUND_TRIP, patterns.round_trip, 8, 1, only=(0,))
        yield from timing.measure(ALL, patterns.everyone, 8, n - 1)
        if far and n == self.n:  # a shared variable belongs to all workers
            yield from timing.measure(WAITS, patterns.fetch_idle, 4, 1, only=(0,))
            yield from timing.measure(COMPUTES, patterns.fetch_busy, 4, 1, only=(0,))
        largest = 8
        for name, (pattern, together) in LADDERS.items():
            for nbytes in SIZES:
                once = yield from timing.measure(name, pattern, nbytes, min(together or n, n - 1), paced=True)
                if once > self.seconds / PATIENCE:
                    break
                largest = max(largest, nbytes)
        if n > 2 and far:
            yield from timing.measure(TO_ONE, patterns.incast, largest // 4, 1, only=(0,), paced=True)


@dataclass
class Timing:
    """One worker's part in the patterns among some workers; the others wait, and hear how long they took."""

    worker: Worker
    clock: Callable[[], float]
    timed: list[Timed]
    ranks: list[int]
    share: float  # seconds for one pattern of one size
    name: str  # before those of patterns
    shared: Shared

    def measure(
        self,
        name: str,
        pattern: Pattern,
        nbytes: int,
        together: int,
        *,
        only: Sequence[int] = (),
        paced: bool = False,
        beside: bool = False,
    ) -> Generator[Request, None, float]:
        """Repeat a pattern for its share of the time, after one or two repetitions that do not count.

        only: whose times count, by their place; all by default. paced: after a gradient step each, as in training:
        what has rested is not as fast as what goes on. beside: begins before the step. Return the longest seconds
        of one repetition.
        """
        yield Barrier()
        mine = Timed(self.name + name, nbytes, together)
        messages = None
        if self.worker.rank in self.ranks:
            messages = Messages(self.worker, self.ranks, nbytes, (len(self.timed) + 1) << 20, self.shared)
        once, step = yield from self.repeat(pattern, messages, mine, 1, paced=paced, beside=beside)
        if once < self.share:
            once, step = yield from self.repeat(pattern, messages, mine, 1, paced=paced, beside=beside)
        mine.times.clear()
        mine.steps.clear()
        count = int(min(MOST, max(LEAST, self.share / max(once + step, 1e-6))))
        yield from self.repeat(pattern, messages, mine, count, paced=paced, beside=beside)
        self.timed.append(mine if messages and (not only or messages.me in only) else Timed("", 0, 0))
        return once

    def repeat(
        self, pattern: Pattern, messages: Messages | None, mine: Timed, count: int, *, paced: bool, beside: bool
    ) -> Generator[Request, None, tuple[float, float]]:
        """Time so many repetitions; return the seconds of the latest, and of its step, where they were longest."""
        longest = buffers.zeros(2, "float64")
        for _ in range(count if messages else 0):
            asked: list[Any] = list(pattern(messages)) if beside else []  # type: ignore[arg-type]
            yield from map(Start, asked)
            begun = self.clock()
            if paced:
                yield Gradient()
            began = self.clock()
            yield from map(Wait, asked)
            if not beside:
                yield from pattern(messages)  # type: ignore[arg-type]
            mine.times.append(self.clock() - began)
            mine.steps.append(began - begun)
        longest[:] = (mine.times[-1], mine.steps[-1]) if mine.times else (0.0, 0.0)
        yield AllReduce(longest, op="max")
        return float(longest[0]), float(longest[1])
