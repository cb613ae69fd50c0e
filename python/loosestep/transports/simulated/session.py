"""All workers in one thread, real numbers, virtual time: the same strategies, priced."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, ClassVar, cast

import numpy as np

from loosestep import ops
from loosestep._core import Calendar, Center, Mail
from loosestep.foundation import checks
from loosestep.foundation.errors import Deadlock
from loosestep.lowering import collectives, hierarchical
from loosestep.lowering.requests import Drain, Drained, RollCall, Script
from loosestep.requests import (
    AllReduce,
    Buffer,
    Communication,
    Exchange,
    Fetch,
    Gradient,
    Push,
    Ready,
    Request,
    Shared,
    Sleep,
    Start,
    Update,
    Wait,
)
from loosestep.transports import center
from loosestep.transports.attendance import Roll
from loosestep.transports.base import Session, Task, Transport, failure
from loosestep.transports.matching import check_alike, check_message, check_shared
from loosestep.transports.simulated.network import Network, PerLink, within
from loosestep.transports.simulated.process import Strand
from loosestep.transports.simulated.stragglers import Constant, Speed, Stragglers

MEMORY_LATENCY, MEMORY_BANDWIDTH = 1e-6, 1e10  # of links within a host
MOST, MOST_ON_HOSTS = 1_000_000, 4096  # workers; on hosts a link has a place in an n x n table
CLOSED_FORM_ABOVE = 64  # workers; an allreduce of more is priced by its recursion instead of 2 n (n-1) events


@dataclass(frozen=True, repr=False)
class Simulated(Transport):
    """n imaginary workers on a virtual clock; bit for bit reproducible from its seed.

    n: workers.
    step_time, sample_time: seconds of one gradient step, and what each sample of its batch adds.
    latency, bandwidth: seconds a message, bytes a second; a number, or an n x n table (sender, receiver).
    center_bandwidth: bytes a second of the center's own link, each way (by default the largest of the links);
        pushes and pulls queue there in the order in which they arrive.
    stragglers: the distribution of step durations: Constant(), LogNormal(), SlowWorker(), RandomPauses().
    seed: of the durations (by default the run's).
    hosts: how many workers live on each host, in rank order; collectives are then two-level (each host folds,
        then the hosts do), with the bits of `MPI` on such hosts. By default every worker has its own.
    host_latency, host_bandwidth: of links within a host, 1e-6 and 1e10 by default: its memory. With hosts, numbers
        for `latency` and `bandwidth` are of links between hosts; tables hold both, and need nothing else.

    A message takes latency + bytes/bandwidth, and a worker sends one at a time; updates take no time. An
    allreduce takes 2 (n-1) latency + 2 (n-1)/n bytes/bandwidth from when the last worker asks.
    """

    virtual: ClassVar[bool] = True
    n: int
    step_time: float = 1e-3
    latency: PerLink = 1e-5
    bandwidth: PerLink = 1.25e9
    center_bandwidth: float | None = None
    stragglers: Stragglers = field(default_factory=Constant)
    seed: int | None = None
    hosts: tuple[int, ...] | None = None
    host_latency: float | None = None
    host_bandwidth: float | None = None
    sample_time: float = 0.0

    @classmethod
    def example(cls) -> Simulated:
        return cls(4)

    def __post_init__(self) -> None:
        checks.integer("n", self.n)
        checks.at_most(
            "n" if self.hosts is None else "n, with hosts,", self.n, MOST if self.hosts is None else MOST_ON_HOSTS
        )
        checks.instance("stragglers", self.stragglers, Stragglers)
        if self.seed is not None:
            checks.integer("seed", self.seed, 0)
        for name in ("step_time", "sample_time"):
            checks.positive(name, getattr(self, name), zero=True)
        if self.center_bandwidth is not None and self.center_bandwidth != inf:
            checks.positive("center_bandwidth", self.center_bandwidth)
        if self.hosts is not None:
            object.__setattr__(self, "hosts", hierarchical.checked(self.hosts))
        self.network()

    @property
    def size(self) -> int:
        return self.n

    def network(self) -> Network:
        """A fresh, idle network."""
        latency = within("latency", self.latency, self.host_latency, MEMORY_LATENCY, self.groups())
        bandwidth = within("bandwidth", self.bandwidth, self.host_bandwidth, MEMORY_BANDWIDTH, self.groups())
        network = Network(self.n, latency, bandwidth, 1.0)
        if self.hosts is not None and not np.ndim(self.bandwidth):
            network.worker_bandwidth = [float(cast("float", self.bandwidth))] * self.n  # the center is elsewhere
        network.center_bandwidth = self.center_bandwidth or max(network.worker_bandwidth)
        return network

    def groups(self) -> hierarchical.Hosts:
        """The ranks of every host."""
        return () if self.hosts is None else hierarchical.split(self.hosts, self.n)

    def open(self, seed: int = 0) -> Session:
        return SimulatedSession(self, seed if self.seed is None else self.seed)


class SimulatedSession(Session):
    """A calendar of what happens when: the earliest goes first, ties in rank order. It and the mail are native."""

    def __init__(self, config: Simulated, seed: int) -> None:
        self.size = config.n
        self.ranks = range(config.n)
        self.network = config.network()
        primitives = {Exchange, Fetch, Push, RollCall, Sleep, Start, Wait, Drain}
        self.hosts = config.groups()
        closed = self.size > CLOSED_FORM_ABOVE and not self.hosts
        self.native = frozenset(primitives | ({AllReduce} if closed else set()))
        self.unpriced = frozenset({AllReduce})
        self.calendar = Calendar()
        self.mail = Mail(
            self.calendar, self.network.latency, self.network.bandwidth, self.network.free, check_mail
        )
        self.time = 0.0  # of what happens now
        self.clocks = [0.0] * self.size  # when each worker last did something
        self.variables: dict[str, Shared] = {}
        self.posted: dict[tuple[object, int], list[tuple[Strand, AllReduce]]] = defaultdict(list)
        self.posts: Counter[tuple[object, int]] = Counter()
        self.started: dict[Communication, Strand] = {}
        self.roll = Roll(self.size)
        self.speeds = [Speed(config.stragglers, rank, seed) for rank in range(self.size)]
        self.price = config.step_time, config.sample_time
        self.begun = [(0.0, 0.0)] * self.size  # of the step under way: when it began, how long it takes
        self.handlers: dict[type[Request], Callable[[Strand, Any], float | None]] = {
            Gradient: self.gradient,
            Ready: self.ready,
            Update: self.update,
            Exchange: self.mail.exchange,
            Fetch: self.fetch,
            Push: self.push,
            AllReduce: self.all_reduce,
            Start: self.start,
            Wait: self.wait,
            Drain: self.drain,
            Script: self.script,
            RollCall: self.roll_call,
            Sleep: lambda strand, request: self.time + request.seconds,
        }

    # --- the clock ---------------------------------------------------------------------------------------

    def now(self, rank: int) -> float:
        return self.clocks[rank]

    def clock(self, rank: int) -> Callable[[], float]:
        return lambda: self.time

    def resume(self, rank: int, seconds: float) -> None:
        self.clocks[rank] = seconds

    def pause(self, rank: int) -> None:
        """Nothing: virtual time stands still by itself."""

    proceed = pause

    def at(self, time: float, rank: int, what: Strand | Callable[[], None]) -> None:
        """Let something happen at a time; events of the network itself have rank -1."""
        self.calendar.push(time, rank, what)

    def run(self, tasks: Sequence[Task]) -> None:
        strands = [Strand(task, task.requests) for task in tasks]
        for strand in strands:
            self.at(self.clocks[strand.rank], strand.rank, strand)
        try:
            self.go_through()
        finally:
            self.mail.clear()  # what is left after a failure refers to this session, and it to that
            self.calendar.clear()
        stuck = [strand for strand in strands if strand.done is None]
        if stuck:
            raise Deadlock("nobody can go on: " + "; ".join(map(self.where, stuck)))

    def go_through(self) -> None:
        """All that is in the calendar."""
        calendar = self.calendar
        while (what := calendar.next()) is not None:
            self.time = calendar.now
            if type(what) is Strand:
                self.advance(what)
            else:
                what()

    def where(self, strand: Strand) -> str:
        """One stuck worker, for people."""
        worker, request = strand.task.worker, strand.waiting
        what = "its beginning" if request is None else str(request)
        return f"worker {worker.rank} in round {worker.round} at {what}"

    def advance(self, strand: Strand) -> None:
        """Perform requests until one takes time or must wait."""
        handlers, now = self.handlers, self.time
        if not strand.beside:
            self.clocks[strand.rank] = now
        try:
            for request in strand.requests:
                strand.waiting = request
                until = handlers[type(request)](strand, request)
                if until is None:
                    return
                if until > now:
                    self.calendar.push(until, strand.rank, strand)
                    return
        except Exception as cause:
            raise failure(strand.task.worker, strand.waiting, cause) from cause
        strand.done, strand.waiting = now, None
        if strand.then is not None:
            strand.then(now)

    # --- computation -------------------------------------------------------------------------------------

    def step(self, strand: Strand, request: Request) -> bool:
        """Compute; if that began a gradient step, note when and how long it takes."""
        worker = strand.task.worker
        clock, before = worker.clock, worker.samples
        steps = strand.task.compute(request)
        if steps:
            seconds = self.price[0] + self.price[1] * (worker.samples - before)
            self.begun[worker.rank] = (self.time, self.speeds[worker.rank].duration(clock, seconds))
        return bool(steps)

    def gradient(self, strand: Strand, request: Gradient) -> float:
        if not self.step(strand, request):
            return self.time
        began, duration = self.begun[strand.rank]
        return began + duration

    def ready(self, strand: Strand, request: Ready) -> float:
        """A bucket is ready when its share of the step is over."""
        bucket = request.bucket
        if not self.step(strand, request) and bucket.index == 0:
            self.begun[strand.rank] = (self.time, 0.0)
        began, duration = self.begun[strand.rank]
        return max(self.time, began + duration * bucket.share)

    def update(self, strand: Strand, request: Update) -> float:
        strand.task.compute(request)
        return self.time

    # --- shared variables --------------------------------------------------------------------------------

    def share(self, rank: int, name: str, like: Buffer) -> Shared:
        if name not in self.variables:
            self.variables[name] = Shared(name, like.size, like.dtype, Center(like))
        return self.variables[name]

    def fetch(self, strand: Strand, request: Fetch) -> float | None:
        check_shared(strand.task.worker, request.shared, request.into)
        if strand.task.worker.unmetered:
            center.read(request)
            return self.time
        self.at(self.network.asked(strand.rank, self.time), -1, lambda: self.ask(strand, request))
        return None

    def ask(self, strand: Strand, request: Fetch) -> None:
        """The request has reached the center, whose link may be busy."""
        begin, left = self.network.pull(request.into.nbytes, self.time)
        if begin > self.time:
            self.at(begin, -1, lambda: self.answer(strand, request, left))
        else:
            self.answer(strand, request, left)

    def answer(self, strand: Strand, request: Fetch, left: float) -> None:
        center.read(request)
        rank = strand.rank
        self.at(left + self.network.to_center[rank], rank, strand)

    def push(self, strand: Strand, request: Push) -> float:
        sent, whole_at = self.network.push(strand.rank, request.nbytes, self.time)
        if whole_at <= self.time:
            center.move(request, request.values)
        else:
            values = tuple(each.copy() for each in request.values)
            self.at(whole_at, -1, lambda: center.move(request, values))
        return whole_at + self.network.to_center[strand.rank] if request.arrived else sent

    # --- collectives -------------------------------------------------------------------------------------

    def all_reduce(self, strand: Strand, request: AllReduce) -> None:
        """Of many workers, or unmetered: all meet, and each goes on when the recursion says."""
        worker, group = strand.task.worker, request.group
        self.posts[group, worker.rank] += 1
        meeting = self.posted[group, self.posts[group, worker.rank]]
        meeting.append((strand, request))
        strand.arrived, strand.unmetered = self.time, worker.unmetered
        if len(meeting) == len(collectives.members(request, self.size)):
            del self.posted[group, self.posts[group, worker.rank]]
            self.meet(sorted(meeting, key=lambda pair: pair[0].rank))

    def meet(self, meeting: list[tuple[Strand, AllReduce]]) -> None:
        strands, requests = zip(*meeting, strict=True)
        check_alike([strand.task.worker for strand in strands], requests)
        bufs = [request.buf for request in requests]
        hosts = self.hosts if requests[0].group is None else ()
        weights = [request.weight for request in requests]
        if hierarchical.fold(requests[0].op, bufs, weights, hosts or (tuple(range(len(bufs))),)):
            for buf in bufs[1:]:
                ops.copy(bufs[0], buf)
        times = [strand.arrived for strand in strands]  # unmetered: each goes on where its clock stands
        if not strands[0].unmetered:
            times = self.network.all_reduce(bufs, [strand.rank for strand in strands], times).tolist()
        elif self.variables:  # what was pushed must have arrived: a barrier in time
            times = [max(self.time, self.network.center_in)] * len(strands)
        for strand, time in zip(strands, times, strict=True):
            self.at(time, strand.rank, strand)

    # --- overlap, roll call ------------------------------------------------------------------------------

    def start(self, strand: Strand, request: Start) -> float:
        asked = request.request
        requests: Iterator[Request] = asked.requests if isinstance(asked, Script) else iter((asked,))
        self.started[asked] = child = Strand(strand.task, requests, beside=True)
        self.advance(child)
        return self.time

    def script(self, strand: Strand, request: Script) -> float | None:
        self.start(strand, Start(request))
        return self.wait(strand, Wait(request))

    def wait(self, strand: Strand, request: Wait) -> float | None:
        if type(request.request) is Drained:
            return max(self.time, request.request.due)
        child = self.taken(request)
        if child.done is not None:
            return max(self.time, child.done)  # a quiesce point may have let others go ahead
        child.then = lambda done: self.at(done, strand.rank, strand)
        return None

    def drain(self, strand: Strand, request: Drain) -> float | None:
        """Go through what is left of it, and on from where the worker's clock stands."""
        child, begun = self.taken(request), self.time
        if child.done is not None:
            request.drained.due = child.done
            return begun

        def note(done: float) -> None:
            request.drained.due = done
            self.at(begun, strand.rank, strand)

        child.then = note
        return None

    def taken(self, request: Wait | Drain) -> Strand:
        """What was started, for the one who waits for it."""
        child = self.started.pop(request.request, None)
        if child is None:
            raise RuntimeError(f"{request} waits for what was not started")
        return child

    def roll_call(self, strand: Strand, request: RollCall) -> float | None:
        rank = strand.rank
        known = [waiting for waiting, _ in self.roll.say(rank, request, strand)]
        for waiting in known:
            if waiting is not strand:
                self.at(self.time, waiting.rank, waiting)
        return self.time if strand in known else None


def check_mail(source: int, content: Buffer, strand: Strand, into: Buffer) -> None:
    """Refuse a message that does not fit."""
    check_message(source, content, strand.task.worker, into)
