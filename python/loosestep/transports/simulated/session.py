"""The simulator: all workers in one thread, with real numbers and virtual time."""

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
from loosestep.lowering import collectives, forms, hierarchical
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
from loosestep.transports.base import ManyWorkersSession, Session, Task, Transport, failure, spin
from loosestep.transports.continuation import Continuation
from loosestep.transports.matching import check_alike, check_message, check_shared
from loosestep.transports.simulated.network import Network, PerLink, within
from loosestep.transports.simulated.stragglers import Constant, Speed, Stragglers

MEMORY_LATENCY, MEMORY_BANDWIDTH = 1e-6, 1e10  # of links within a host
MOST, MOST_ON_HOSTS = 1_000_000, 4096  # workers; on hosts a link has a place in an n x n table
CLOSED_FORM_ABOVE = 64  # workers; an allreduce of more is priced by its recursion instead of 2 n (n-1) events


@dataclass(frozen=True, repr=False)
class Simulated(Transport):
    """n simulated workers on a virtual clock; bit for bit reproducible from its seed.

    n: workers.
    step_time, sample_time: seconds of one gradient step, and what each sample of its batch adds.
    latency, bandwidth: seconds a message, bytes a second; a number, or an n x n table (sender, receiver).
    center_bandwidth: bytes a second of the center's own link, each way (by default the largest of the links);
        pushes and pulls queue there in the order in which they arrive.
    stragglers: the distribution of step durations, from `loosestep.stragglers`: Constant() by default.
    seed: of the durations (by default the run's).
    hosts: how many workers live on each host, in rank order; collectives are then two-level (each host folds,
        then the hosts do), with the bits of `MPI` on such hosts. By default every worker has its own.
    host_latency, host_bandwidth: of links within a host, 1e-6 and 1e10 by default: its memory. With hosts, numbers
        for `latency` and `bandwidth` are of links between hosts; tables hold both, and need nothing else.

    A message takes latency + bytes/bandwidth, and a worker sends one at a time; updates take no time. From when
    the last worker asks an allreduce takes latency + (n-1) bytes/bandwidth where that is less (whole vectors, of
    up to 4 MiB to each worker), else 2 latency + 2 (n-1)/n bytes/bandwidth; from 16 workers on up to 5% more on
    narrow links. Where links differ, the slowest decide.
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
        """Return a new, idle network."""
        latency = within("latency", self.latency, self.host_latency, MEMORY_LATENCY, self.groups())
        bandwidth = within("bandwidth", self.bandwidth, self.host_bandwidth, MEMORY_BANDWIDTH, self.groups())
        elsewhere = self.hosts is not None and not np.ndim(self.bandwidth)  # the center, on no worker's host
        outside = float(cast("float", self.bandwidth)) if elsewhere else None
        return Network(self.n, latency, bandwidth, self.center_bandwidth, outside)

    def groups(self) -> hierarchical.Hosts:
        """Return the ranks of every host."""
        return () if self.hosts is None else hierarchical.split(self.hosts, self.n)

    def open(self, seed: int = 0) -> Session:
        return SimulatedSession(self, seed if self.seed is None else self.seed)


class SimulatedSession(ManyWorkersSession):
    """A calendar of events, the earliest first, ties in rank order. Calendar and mail are native."""

    def __init__(self, config: Simulated, seed: int) -> None:
        self.size = config.n
        self.ranks = range(config.n)
        self.network = config.network()
        primitives = {Exchange, Fetch, Push, RollCall, Sleep, Start, Wait, Drain}
        self.hosts = config.groups()
        self.links = self.network.links(self.hosts)
        closed = self.size > CLOSED_FORM_ABOVE and not self.hosts
        self.native = frozenset(primitives | ({AllReduce} if closed else set()))
        self.unpriced = frozenset({AllReduce})
        self.calendar = Calendar()
        self.mail = Mail(self.calendar, self.network, check_mail)
        self.time = 0.0  # of what happens now
        self.clocks = [0.0] * self.size  # when each worker last did something
        self.variables: dict[str, Shared] = {}
        self.posted: dict[tuple[object, int], list[tuple[Continuation, AllReduce, float]]] = defaultdict(list)
        self.posts: Counter[tuple[object, int]] = Counter()
        self.started: dict[Communication, Continuation] = {}
        self.roll = Roll(self.size)
        self.speeds = [Speed(config.stragglers, rank, seed) for rank in range(self.size)]
        self.price = config.step_time, config.sample_time
        self.begun = [(0.0, 0.0)] * self.size  # of the current step: when it began, how long it takes
        self.handlers: dict[type[Request], Callable[[Continuation, Any], float | None]] = {
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
            Sleep: lambda process, request: self.time + request.seconds,
        }

    # --- the clock ---------------------------------------------------------------------------------------

    def now(self, rank: int) -> float:
        return self.clocks[rank]

    def clock(self, rank: int) -> Callable[[], float]:
        return lambda: self.time

    def resume(self, rank: int, seconds: float) -> None:
        self.clocks[rank] = seconds

    def pause(self, rank: int) -> None:
        """Do nothing: virtual time stands still by itself."""

    proceed = pause

    def at(self, time: float, rank: int, what: Continuation | Callable[[], None]) -> None:
        """Let something happen at a time; events of the network itself have rank -1."""
        self.calendar.push(time, rank, what)

    def await_stop(self, decided: Callable[[], bool]) -> None:
        spin(decided)

    def run(self, tasks: Sequence[Task]) -> None:
        processes = [Continuation(task.worker, task.worker.rank, task.requests, task.compute) for task in tasks]
        for process in processes:
            self.at(self.clocks[process.rank], process.rank, process)
        try:
            self.go_through()
        finally:
            self.mail.clear()  # what is left after a failure refers to this session, and it to that
            self.calendar.clear()
        stuck = [process for process in processes if process.done is None]
        if stuck:
            raise Deadlock("nobody can go on: " + "; ".join(map(self.where, stuck)))

    def go_through(self) -> None:
        """Process all events of the calendar."""
        calendar = self.calendar
        while (what := calendar.next()) is not None:
            self.time = calendar.now
            if type(what) is Continuation:
                self.advance(what)
            else:
                what()

    def where(self, process: Continuation) -> str:
        """Describe where one stuck worker is."""
        worker, request = process.worker, process.waiting
        what = "its beginning" if request is None else str(request)
        return f"worker {worker.rank} in round {worker.round} at {what}"

    def advance(self, process: Continuation) -> None:
        """Perform requests until one takes time or must wait."""
        handlers, now = self.handlers, self.time
        if not process.beside:
            self.clocks[process.rank] = now
        try:
            for request in process.requests:
                process.waiting = request
                until = handlers[type(request)](process, request)
                if until is None:
                    return
                if until > now:
                    self.calendar.push(until, process.rank, process)
                    return
        except Exception as cause:
            raise failure(process.worker, process.waiting, cause) from cause
        process.done, process.waiting = now, None
        if process.then is not None:
            process.then(now)

    # --- computation -------------------------------------------------------------------------------------

    def step(self, process: Continuation, request: Request) -> bool:
        """Compute; if that began a gradient step, record when and how long it takes."""
        worker = process.worker
        clock, before = worker.clock, worker.samples
        steps = process.compute(request)
        if steps:
            seconds = self.price[0] + self.price[1] * (worker.samples - before)
            self.begun[worker.rank] = (self.time, self.speeds[worker.rank].duration(clock, seconds))
        return bool(steps)

    def gradient(self, process: Continuation, request: Gradient) -> float:
        if not self.step(process, request):
            return self.time
        began, duration = self.begun[process.rank]
        return began + duration

    def ready(self, process: Continuation, request: Ready) -> float:
        """Wait for a bucket, which is ready when its part of the step is over."""
        bucket = request.bucket
        if not self.step(process, request) and bucket.index == 0:
            self.begun[process.rank] = (self.time, 0.0)
        began, duration = self.begun[process.rank]
        return max(self.time, began + duration * bucket.share)

    def update(self, process: Continuation, request: Update) -> float:
        process.compute(request)
        return self.time

    # --- shared variables --------------------------------------------------------------------------------

    def share(self, rank: int, name: str, like: Buffer) -> Shared:
        if name not in self.variables:
            self.variables[name] = Shared(name, like.size, like.dtype, Center(like))
        return self.variables[name]

    def fetch(self, process: Continuation, request: Fetch) -> float | None:
        check_shared(process.worker, request.shared, request.into)
        if process.worker.unmetered:
            center.read(request)
            return self.time
        self.at(self.network.asked(process.rank, self.time), -1, lambda: self.ask(process, request))
        return None

    def ask(self, process: Continuation, request: Fetch) -> None:
        """Handle a request that has reached the center, whose link may be busy."""
        begin, left = self.network.pull(request.into.nbytes, self.time)
        if begin > self.time:
            self.at(begin, -1, lambda: self.answer(process, request, left))
        else:
            self.answer(process, request, left)

    def answer(self, process: Continuation, request: Fetch, left: float) -> None:
        center.read(request)
        rank = process.rank
        self.at(left + self.network.to_center[rank], rank, process)

    def push(self, process: Continuation, request: Push) -> float:
        sent, whole_at = self.network.push(process.rank, request.nbytes, self.time)
        if whole_at <= self.time:
            center.move(request, request.values)
        else:
            values = tuple(each.copy() for each in request.values)
            self.at(whole_at, -1, lambda: center.move(request, values))
        return whole_at + self.network.to_center[process.rank] if request.arrived else sent

    # --- collectives -------------------------------------------------------------------------------------

    def all_reduce(self, process: Continuation, request: AllReduce) -> None:
        """Wait for all members, for many workers or unmetered; each goes on when the recursion says."""
        worker, group = process.worker, request.group
        self.posts[group, worker.rank] += 1
        meeting = self.posted[group, self.posts[group, worker.rank]]
        meeting.append((process, request, self.time))
        if len(meeting) == len(collectives.members(request, self.size)):
            del self.posted[group, self.posts[group, worker.rank]]
            self.meet(sorted(meeting, key=lambda entry: entry[0].rank))

    def meet(self, meeting: list[tuple[Continuation, AllReduce, float]]) -> None:
        processes, requests, arrived = zip(*meeting, strict=True)
        check_alike([process.worker for process in processes], requests)
        bufs = [request.buf for request in requests]
        hosts = self.hosts if requests[0].group is None else ()
        weights = [request.weight for request in requests]
        if hierarchical.fold(requests[0].op, bufs, weights, hosts or (tuple(range(len(bufs))),)):
            for buf in bufs[1:]:
                ops.copy(bufs[0], buf)
        times = list(arrived)  # unmetered: each goes on where its clock stands
        if not processes[0].worker.unmetered:
            ranks = [process.rank for process in processes]
            form = forms.of_all_reduce(len(bufs), bufs[0].nbytes, self.links)
            size, itemsize = bufs[0].size, bufs[0].itemsize
            times = self.network.all_reduce(size, itemsize, ranks, times, whole=form.whole, at_once=form.at_once)
        elif self.variables:  # what was pushed must have arrived: a barrier in time
            times = [max(self.time, self.network.center_in)] * len(processes)
        for process, time in zip(processes, times, strict=True):
            self.at(time, process.rank, process)

    # --- overlap, roll call ------------------------------------------------------------------------------

    def start(self, process: Continuation, request: Start) -> float:
        asked = request.request
        requests: Iterator[Request] = asked.requests if isinstance(asked, Script) else iter((asked,))
        self.started[asked] = child = Continuation(
            process.worker, process.rank, requests, process.compute, beside=True
        )
        self.advance(child)
        return self.time

    def script(self, process: Continuation, request: Script) -> float | None:
        self.start(process, Start(request))
        return self.wait(process, Wait(request))

    def wait(self, process: Continuation, request: Wait) -> float | None:
        if type(request.request) is Drained:
            return max(self.time, request.request.due)
        child = self.taken(request)
        if child.done is not None:
            return max(self.time, child.done)  # a synchronization point may have let others go ahead
        child.then = lambda done: self.at(done, process.rank, process)
        return None

    def drain(self, process: Continuation, request: Drain) -> float | None:
        """Complete a started request at no cost to the worker's clock; record when it would have ended."""
        child, begun = self.taken(request), self.time
        if child.done is not None:
            request.drained.due = child.done
            return begun

        def note(done: float) -> None:
            request.drained.due = done
            self.at(begun, process.rank, process)

        child.then = note
        return None

    def taken(self, request: Wait | Drain) -> Continuation:
        """Remove and return the stream that this `Wait` or `Drain` refers to."""
        child = self.started.pop(request.request, None)
        if child is None:
            raise RuntimeError(f"{request} waits for what was not started")
        return child

    def roll_call(self, process: Continuation, request: RollCall) -> float | None:
        rank = process.rank
        known = [waiting for waiting, _ in self.roll.say(rank, request, process)]
        for waiting in known:
            if waiting is not process:
                self.at(self.time, waiting.rank, waiting)
        return self.time if process in known else None


def check_mail(source: int, content: Buffer, process: Continuation, into: Buffer) -> None:
    """Refuse a message that does not fit."""
    check_message(source, content, process.worker, into)
