"""The simulator: all workers in one thread, with real numbers and virtual time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from loosestep import ops
from loosestep._core import Calendar, Center, Mail
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
from loosestep.requests.memo import Memo
from loosestep.transports import center
from loosestep.transports.attendance import Roll
from loosestep.transports.base import ManyWorkersSession, Task, failure, spin
from loosestep.transports.continuation import Continuation
from loosestep.transports.matching import check_alike, check_message, check_shared
from loosestep.transports.simulated.shards import Shards

if TYPE_CHECKING:
    from loosestep.transports.simulated.network import Network
    from loosestep.transports.simulated.prices import Prices
    from loosestep.transports.simulated.stragglers import Speed

CLOSED_FORM_ABOVE = 64  # workers; an allreduce of more is priced by its recursion instead of 2 n (n-1) events


class SimulatedSession(ManyWorkersSession):
    """A calendar of events, the earliest first, ties in rank order. Calendar and mail are native."""

    def __init__(
        self,
        network: Network,
        speeds: Sequence[Speed],
        price: tuple[float, float],
        prices: Prices,
        *,
        hosts: hierarchical.Hosts = (),
        sharded: bool = False,
    ) -> None:
        """Make the session of a cluster. price: seconds of a step, and of each sample; sharded: of variables."""
        self.size = network.size
        self.ranks = range(self.size)
        self.network = network
        primitives = {Exchange, Fetch, Push, RollCall, Sleep, Start, Wait, Drain}
        self.hosts = hosts
        self.links = self.network.links(self.hosts)
        closed = self.size > CLOSED_FORM_ABOVE and not self.hosts
        self.native = frozenset(primitives | ({AllReduce} if closed else set()))
        self.unpriced = frozenset({AllReduce})
        self.memo = Memo()
        self.calendar = Calendar()
        self.mail = Mail(self.calendar, self.network, check_mail)
        self.time = 0.0  # of what happens now
        self.clocks = [0.0] * self.size  # when each worker last did something
        self.variables: dict[str, Shared] = {}
        self.posted: dict[tuple[object, int], list[tuple[Continuation, AllReduce, float]]] = defaultdict(list)
        self.posts: Counter[tuple[object, int]] = Counter()
        self.started: dict[Communication, Continuation] = {}
        self.roll = Roll(self.size)
        self.speeds = speeds
        self.price, self.prices = price, prices
        self.begun = [(0.0, 0.0)] * self.size  # of the current step: when it began, how long it takes
        self.running = [0] * self.size  # how many communications that each worker has started go on
        self.busy_until = [-1.0] * self.size  # when each worker's latest step is over
        self.shards: Shards | None = None
        if sharded:
            self.shards = Shards(self.network, self.at, lambda: self.time, self.turn)
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
            if type(what) is not Continuation:
                what()
            elif what.beside and not what.turned and (turn := self.turn(what.rank)):
                what.turned = True
                self.at(self.time + turn, what.rank, what)
            else:
                what.turned = False
                self.advance(what)

    def turn(self, rank: int) -> float:
        """Return how long what makes progress beside this worker waits for its turn: only while it computes."""
        return self.prices.turn if self.time <= self.busy_until[rank] else 0.0

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
        self.running[process.rank] -= process.beside
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
            duration = self.speeds[worker.rank].duration(clock, seconds)
            duration *= 1 + self.prices.contention if self.running[worker.rank] else 1.0
            self.begun[worker.rank] = (self.time, duration)
            self.busy_until[worker.rank] = self.time + duration
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
        return self.time + self.prices.update * process.worker.params.nbytes

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
        if self.shards is not None:
            return self.shards.fetch(process.rank, request, lambda until: self.at(until, process.rank, process))
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

    def push(self, process: Continuation, request: Push) -> float | None:
        if self.shards is not None:
            return self.shards.push(process.rank, request, lambda until: self.at(until, process.rank, process))
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
            meeting.sort(key=lambda entry: entry[0].rank)
            if worker.unmetered and self.shards is not None:  # what was pushed must have arrived
                self.shards.when_idle(lambda: self.meet(meeting))
            else:
                self.meet(meeting)

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
        self.running[process.rank] += 1
        self.advance(child)
        return max(self.time, self.network.injected(process.rank))

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
