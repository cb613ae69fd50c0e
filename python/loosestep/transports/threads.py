"""n workers in n threads of this process, sharing memory.

Collectives are lock-free: workers post the addresses of their buffers, and those that wait claim chunks of the
work (four threads on two cores must not wait for each other's turn). The center is locked by chunks of 16 KiB:
inside a lock the exchange runs at full vector width and x + c is conserved exactly; element-wise
compare-exchange would be about ten times slower. Hogwild's parameters are relaxed atomics without any lock.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from loosestep import _core
from loosestep.foundation import checks
from loosestep.foundation.errors import Aborted, Mismatch, TimedOut
from loosestep.lowering.requests import RollCall
from loosestep.requests import (
    AllGather,
    AllReduce,
    Barrier,
    Broadcast,
    Buffer,
    Communication,
    Compute,
    Exchange,
    Group,
    Mix,
    Request,
    Shared,
    Sleep,
    Start,
    Wait,
)
from loosestep.transports import center
from loosestep.transports.attendance import Roll
from loosestep.transports.base import Endpoint, ManyWorkersSession, Session, Task, Transport, drive, failure
from loosestep.transports.forks import Original, end_copy
from loosestep.transports.keyed_queues import pop
from loosestep.transports.matching import check_message
from loosestep.transports.stopwatch import Stopwatch

PATIENCE = 5.0  # seconds after a failure for threads to end; one stuck in user code never does
MAX_IN_FLIGHT = 30  # requests of a worker at a time; a team has slots for 32
LOOK = 0.5  # seconds between two looks at whether those awaited are alive


@dataclass(frozen=True, repr=False)
class Threads(Transport):
    """n workers in threads. Gradients run side by side where they release the GIL, as numpy and torch do.

    n: workers.
    deadline: seconds for which a worker that others wait for may show no sign of life (no new request).
    """

    n: int
    deadline: float = 600.0

    @classmethod
    def example(cls) -> Threads:
        return cls(4)

    def __post_init__(self) -> None:
        checks.integer("n", self.n)
        checks.positive("deadline", self.deadline)

    @property
    def size(self) -> int:
        return self.n

    def open(self, seed: int = 0) -> Session:
        return ThreadsSession(self)


class ThreadsSession(Stopwatch, ManyWorkersSession):
    """The resources that the threads of one run share."""

    def __init__(self, config: Threads) -> None:
        super().__init__()
        self.original = Original()
        self.ranks, self.deadline = range(config.n), config.deadline
        self.variables: dict[str, Shared] = {}
        self.teams: dict[Group, _core.Team] = {}
        self.lock = threading.Lock()
        self.changed = threading.Condition()  # guards mail and roll
        self.mail: dict[tuple[int, int, int], deque[tuple[Buffer, float]]] = defaultdict(deque)
        self.roll = Roll(config.n)
        self.aborted = False
        self.failures: list[BaseException] = []
        self.endpoints = [ThreadsEndpoint(self, rank) for rank in self.ranks]
        self.native = frozenset(self.endpoints[0].handlers)

    def share(self, rank: int, name: str, like: Buffer) -> Shared:
        with self.lock:
            if name not in self.variables:
                self.variables[name] = Shared(name, like.size, like.dtype, _core.Center(like))
            return self.variables[name]

    def team(self, group: Group) -> _core.Team:
        """Return the collectives of one group, made when it first meets."""
        with self.lock:
            if group not in self.teams:
                self.teams[group] = _core.Team(len(group))
                if self.aborted:
                    self.teams[group].abort()
            return self.teams[group]

    def await_stop(self, decided: Callable[[], bool]) -> None:
        while not decided():
            if self.aborted:  # a second Ctrl-C came before the first was heeded
                raise Aborted
            time.sleep(0)

    # --- the run -----------------------------------------------------------------------------------------

    def run(self, tasks: Sequence[Task]) -> None:
        threads = [
            threading.Thread(target=self.work, args=(task,), name=f"worker {task.worker.rank}", daemon=True)
            for task in tasks
        ]
        self.begin()
        try:
            for thread in threads:
                thread.start()
            self.await_all(threads)
        except BaseException as error:
            self.abort()
            self.await_all(threads, 0.5 if isinstance(error, KeyboardInterrupt) else PATIENCE)
            raise
        if self.failures:
            raise self.failures[0]

    def await_all(self, threads: Sequence[threading.Thread], seconds: float = float("inf")) -> None:
        """Wait for threads in short naps, so that signals are handled."""
        until = time.monotonic() + seconds
        for thread in threads:
            while thread.ident is not None and thread.is_alive() and time.monotonic() < until:
                thread.join(0.1)
                if self.failures and until == float("inf"):
                    until = time.monotonic() + PATIENCE

    def work(self, task: Task) -> None:
        """Run one worker in its thread. The first failure stops all, and is the one that the caller sees."""
        endpoint = self.endpoints[task.worker.rank]
        endpoint.worker = task.worker
        try:
            endpoint.barrier(Barrier())()  # all begin together
            drive(replace(task, compute=lambda request: self.compute(task, request)), endpoint)
        except Aborted:
            pass
        except BaseException as cause:
            if not self.original.here:
                end_copy(cause)
            with self.lock:
                self.failures.append(failure(task.worker, endpoint.doing, cause))
            self.abort()
        finally:
            endpoint.done = True

    def compute(self, task: Task, request: Request) -> int:
        """Perform a computation; raise in a forked copy, which would wait for workers that it does not have."""
        steps = task.compute(request)
        self.original.require(task.worker.rank)
        return steps

    def abort(self) -> None:
        """End every wait, now and later."""
        self.aborted = True
        with self.lock:
            teams = list(self.teams.values())
        for team in teams:
            team.abort()
        with self.changed:
            self.changed.notify_all()


class ThreadsEndpoint(Endpoint):
    """One worker's end: posts a collective and completes it, in one step or in two."""

    def __init__(self, session: ThreadsSession, rank: int) -> None:
        self.session, self.rank = session, rank
        self.worker: Any = None
        self.done = False
        self.world = tuple(session.ranks)
        self.expected: dict[tuple[int, int, int], deque[tuple[Exchange, int, Buffer]]] = defaultdict(deque)
        self.begun: dict[Communication, Callable[[], None]] = {}
        self.early: set[Communication] = set()  # started, and complete before they were waited for
        self._teams: dict[Group, tuple[_core.Team, int]] = {}
        self.posts: dict[type[Request], Callable[[Any], Callable[[], None]]] = {
            AllReduce: self.all_reduce,
            AllGather: self.all_gather,
            Broadcast: self.broadcast,
            Barrier: self.barrier,
            Mix: self.mix,
            Exchange: self.exchange,
        }
        self._handlers: dict[type[Request], Callable[[Any], object]] = {
            **{kind: self.at_once(post) for kind, post in self.posts.items()},
            **center.handlers(self.rank),
            Start: self.start,
            Wait: self.wait,
            RollCall: self.roll_call,
            Sleep: self.sleep,
        }

    @property
    def handlers(self) -> dict[type[Request], Callable[[Any], object]]:
        return self._handlers

    def check(self) -> None:
        """Do nothing: a failure ends the threads of all workers."""

    @staticmethod
    def at_once(post: Callable[[Any], Callable[[], None]]) -> Callable[[Any], None]:
        """Return a handler that posts a request and completes it at once."""
        return lambda request: post(request)()

    # --- overlap -----------------------------------------------------------------------------------------

    def start(self, request: Start) -> None:
        """Post now, complete at `Wait`; what needs no other worker is done now."""
        asked = request.request
        post = self.posts.get(type(asked))
        if len(self.begun) >= MAX_IN_FLIGHT:
            self.make_room()
        self.begun[asked] = post(asked) if post else self.nothing(self._handlers[type(asked)](asked))

    def make_room(self) -> None:
        """Complete the oldest collective (its members start in one order). A `Mix` may still be read."""
        oldest = next((asked for asked in self.begun if type(asked) in (AllReduce, AllGather, Broadcast)), None)
        if oldest is not None:
            self.begun.pop(oldest)()
            self.early.add(oldest)

    def nothing(self, _: object) -> Callable[[], None]:
        return lambda: None

    def wait(self, request: Wait) -> None:
        asked = request.request
        if asked in self.begun:
            self.begun.pop(asked)()
        elif asked in self.early:
            self.early.remove(asked)
        else:
            raise RuntimeError(f"{request} waits for what was not started")

    # --- collectives -------------------------------------------------------------------------------------

    def team(self, group: Group | None) -> tuple[_core.Team, int]:
        """Return the team of a group, and this worker's number in it."""
        ranks = self.world if group is None else group
        if ranks not in self._teams:
            self._teams[ranks] = self.session.team(ranks), ranks.index(self.rank)
        return self._teams[ranks]

    def all_reduce(self, request: AllReduce) -> Callable[[], None]:
        team, me = self.team(request.group)
        ticket = team.post_all_reduce(me, request.buf, request.op, request.weight)
        return lambda: self.complete(request, team, me, ticket)

    def all_gather(self, request: AllGather) -> Callable[[], None]:
        team, me = self.team(request.group)
        ticket = team.post_all_gather(me, request.piece, request.out)
        return lambda: self.complete(request, team, me, ticket)

    def broadcast(self, request: Broadcast) -> Callable[[], None]:
        team, me = self.team(request.group)
        ranks = self.world if request.group is None else request.group
        ticket = team.post_broadcast(me, request.buf, ranks.index(request.root))
        return lambda: self.complete(request, team, me, ticket)

    def barrier(self, request: Barrier) -> Callable[[], None]:
        team, me = self.team(request.group)
        ticket = team.post_barrier(me)
        return lambda: self.complete(request, team, me, ticket)

    def mix(self, request: Mix) -> Callable[[], None]:
        team, me = self.team(None)
        ranks, weights = zip(*request.weights.row, strict=True)
        scratch = self.worker.scratch(("mixed", id(request.buf)), request.buf)
        ticket = team.post_mix(me, request.buf, scratch, ranks, weights, request.weights.readers)
        return lambda: self.complete(request, team, me, ticket)

    def complete(self, request: Request, team: _core.Team, me: int, ticket: int) -> None:
        """Wait for a post to be answered, as long as those who are late show signs of life."""
        detector: HangDetector | None = None
        while (status := self.complete_once(request, team, me, ticket)) != "done":
            if status == "aborted":
                raise Aborted
            detector = detector or HangDetector(self, request)
            detector.check(team.missing(ticket))

    def complete_once(self, request: Request, team: _core.Team, me: int, ticket: int) -> str:
        try:
            return team.complete(me, ticket, min(LOOK, self.session.deadline / 4))
        except _core.Mismatch as error:
            raise Mismatch(f"{error}, in round {self.worker.round}") from error

    # --- messages, roll call -----------------------------------------------------------------------------

    def exchange(self, request: Exchange) -> Callable[[], None]:
        """Copy sends now; fill receives at completion, in the order in which they were begun."""
        session = self.session
        with session.changed:
            for to, buf in request.sends:
                session.mail[self.rank, to, request.tag].append((buf.copy(), request.note))
            session.changed.notify_all()
        missing = {(source, self.rank, request.tag) for source, _ in request.recvs}
        for source, into in request.recvs:
            self.expected[source, self.rank, request.tag].append((request, source, into))
        return lambda: self.receive(request, missing)

    def receive(self, request: Exchange, keys: set[tuple[int, int, int]]) -> None:
        for key in keys:
            while any(asked is request for asked, _, _ in self.expected.get(key, ())):
                content, note = self.pick(request, key)
                asked, source, into = pop(self.expected, key)
                check_message(source, content, self.worker, into)
                into[...] = content
                if asked.notes is not None:
                    asked.notes[source] = note

    def pick(self, request: Exchange, key: tuple[int, int, int]) -> tuple[Buffer, float]:
        """Block until the next message of a sender is there, and return it."""
        session = self.session
        self.until(request, lambda: bool(session.mail.get(key)), lambda: [key[0]])
        with session.changed:
            return pop(session.mail, key)  # type: ignore[no-any-return]

    def roll_call(self, request: RollCall) -> None:
        session = self.session
        with session.changed:
            if len(session.roll.say(self.rank, request, self)) > 1:
                session.changed.notify_all()
        if not request.answer:
            others = [rank for rank in self.world if rank != self.rank]
            self.until(request, lambda: bool(request.answer), lambda: others)

    def sleep(self, request: Sleep) -> None:
        """Sleep in the transport's time, but not past an abort."""
        until = time.monotonic() + request.seconds
        while (left := until - time.monotonic()) > 0:
            if self.session.aborted:
                raise Aborted
            time.sleep(min(left, 0.1))

    def until(self, request: Request, ready: Callable[[], bool], missing: Callable[[], list[int]]) -> None:
        """Wait until something under `changed` is ready."""
        detector: HangDetector | None = None
        while True:
            with self.session.changed:
                if self.session.changed.wait_for(
                    lambda: ready() or self.session.aborted, min(LOOK, self.session.deadline / 4)
                ):
                    if ready():
                        return
                    raise Aborted
            detector = detector or HangDetector(self, request)
            detector.check(missing())


class HangDetector:
    """Tells late workers that are alive from those that hang: a new request is a sign of life."""

    def __init__(self, endpoint: ThreadsEndpoint, request: Request) -> None:
        self.endpoint, self.request = endpoint, request
        self.seen: dict[int, tuple[object, float]] = {}

    def check(self, missing: Sequence[int]) -> None:
        """Raise if every one of those missing has been still for the deadline, or has ended."""
        session, now = self.endpoint.session, time.monotonic()
        late = []
        for rank in missing:
            other = session.endpoints[rank]
            sign = (id(other.doing), getattr(other.worker, "clock", 0), other.done)
            if rank not in self.seen or self.seen[rank][0] != sign:
                self.seen[rank] = (sign, now)
            if now - self.seen[rank][1] >= session.deadline:
                late.append(rank)
        if late and len(late) == len(missing):
            words = [self.words(rank) for rank in self.culprits(late)]
            raise TimedOut(self.endpoint.rank, str(self.request), words, session.deadline)

    def culprits(self, late: Sequence[int]) -> Sequence[int]:
        """Return the workers that compute, which hold up those that wait for them; if none, the late ones."""
        others = [other for other in self.endpoint.session.endpoints if other is not self.endpoint]
        return [other.rank for other in others if isinstance(other.doing, Compute) and not other.done] or late

    def words(self, rank: int) -> str:
        other = self.endpoint.session.endpoints[rank]
        if other.done:
            return f"worker {rank}, which has ended"
        what = "its start" if other.doing is None else str(other.doing)
        return f"worker {rank}, which is at {what} in round {getattr(other.worker, 'round', 0)}"
