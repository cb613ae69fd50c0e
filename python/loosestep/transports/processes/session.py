"""One worker in each of several processes, over a wire: the session, composed of its parts, and its endpoint."""

from __future__ import annotations

import os
import sys
import time
from abc import abstractmethod
from functools import partial
from signal import SIGINT
from typing import TYPE_CHECKING, Any, NoReturn

from loosestep.foundation import output
from loosestep.foundation.errors import PeerFailed, TimedOut
from loosestep.foundation.stacks import line, stacks
from loosestep.lowering.requests import RollCall, Script
from loosestep.requests import Exchange, Sleep, Start, Wait
from loosestep.transports.base import Endpoint, ProcessTransport, Session, Task, drive, failure
from loosestep.transports.forks import Original
from loosestep.transports.matching import check_facts
from loosestep.transports.processes import links
from loosestep.transports.processes.attendance import Attendance
from loosestep.transports.processes.departures import Departures
from loosestep.transports.processes.heartbeat import UdpHeartbeat
from loosestep.transports.processes.host_memory import HostCenter, HostMemory
from loosestep.transports.processes.host_messages import HostMessages
from loosestep.transports.processes.launchers import tell_guard
from loosestep.transports.processes.liveness import FailureDetector
from loosestep.transports.processes.mailbox import Mailbox
from loosestep.transports.processes.multi_host import Hierarchical, Messages
from loosestep.transports.processes.progress import BlockingCalls, ProgressEngine
from loosestep.transports.processes.queries import Queries
from loosestep.transports.processes.shards import Shards
from loosestep.transports.stopwatch import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from loosestep.lowering.hierarchical import Hosts
    from loosestep.requests import Buffer, Communication, Request, Shared
    from loosestep.requests.links import Links
    from loosestep.requests.worker import Worker
    from loosestep.transports.processes.components import Centers, Collectives
    from loosestep.transports.processes.wire import Wire

    Joined = tuple[Wire, Hosts]

LAST_WORDS = 1.0  # seconds for the others to hear of a failure


def open_session(
    wire: Wire, hosts: Hosts, heartbeat_timeout: float, deadline: float, said: Links | None = None
) -> ProcessSession:
    """Compose the session that suits the hosts, over a wire; every rank calls it.

    said: what the links between hosts are, by which collectives choose their form; else that is measured.
    """
    mailbox, group = Mailbox(wire), next(host for host in hosts if wire.rank in host)
    times = heartbeat_timeout, deadline
    if len(hosts) == 1:
        return ProcessSession(mailbox, HostMemory(group), HostCenter(group), None, hosts, *times)
    collectives = Hierarchical(group) if len(hosts) < wire.size else Messages()
    session = ProcessSession(mailbox, collectives, Shards(mailbox), UdpHeartbeat(wire), hosts, *times)
    session.links = links.agreed(session.calls, hosts, said)
    return session


class WiredTransport(ProcessTransport):
    """Base of the transports of processes that a wire joins."""

    deadline: float  # seconds for which a worker may compute while others wait for it
    heartbeat_timeout: float  # seconds without a sign of life after which a worker counts as dead
    latency: float | None  # seconds of a message between hosts, and bytes a second; None: measured
    bandwidth: float | None

    @abstractmethod
    def wire(self) -> Joined:
        """Join the other processes, all of which call it; return what carries bytes, and which share a host."""

    def open(self, seed: int = 0) -> Session:
        said = links.checked(self.latency, self.bandwidth)
        return open_session(*self.wire(), self.heartbeat_timeout, self.deadline, said)


class ProcessSession(Stopwatch, Session):
    """This process's part of a run: messages, collectives and centers, moved on by one progress engine.

    heartbeat: tells ranks of other hosts that this process lives; None where messages and memory do.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        collectives: Collectives,
        centers: Centers,
        heartbeat: UdpHeartbeat | None,
        hosts: Hosts,
        heartbeat_timeout: float,
        deadline: float,
    ) -> None:
        super().__init__()
        self.mailbox, self.collectives, self.centers, self.heartbeat = mailbox, collectives, centers, heartbeat
        self.ranks, self.hosts = (mailbox.rank,), hosts
        self.hosted, self.grouped = collectives.hosted, collectives.grouped
        self.original = Original()
        self.queries, self.departures = Queries(mailbox), Departures(mailbox)
        self.messages = HostMessages(mailbox, hosts)
        self.engine = self.make_engine(Attendance(mailbox))
        heartbeats = [mailbox.wire.last_heard, collectives.memories.last_heard]
        heartbeats += [heartbeat.last_heard] if heartbeat else []
        detector = FailureDetector(self.queries, heartbeats, heartbeat_timeout, deadline)
        self.calls = BlockingCalls(self.engine, self.queries, self.departures, detector, self.original)
        centers.open(self.calls)
        self.endpoint = ProcessEndpoint(self.calls, self.messages, collectives, centers)
        self.native = frozenset(self.endpoint.handlers)
        self.queries.answer("state", lambda _: self.state())
        self.gone = False  # it has left
        self.hook = UncaughtErrors(self.leave_uncaught, self.original, mailbox.wire.end_job)
        self.open()

    def make_engine(self, attendance: Attendance) -> ProgressEngine:
        """Make the engine that moves all parts on."""
        parts = self.mailbox, self.centers, attendance
        arrivals = {**self.queries.arrivals, **self.departures.arrivals}
        operations = dict(self.collectives.operations)
        for part in parts:
            arrivals |= part.arrivals
            operations |= part.operations
        operations |= self.messages.operations
        give_up = partial(end_stuck, self.mailbox.rank)
        slots, messages = self.collectives.slots, self.messages if self.messages.shared else None
        return ProgressEngine(self.mailbox, arrivals, operations, slots, self.departures, give_up, messages)

    def open(self) -> None:
        """Let the parts meet those of the other ranks."""
        calls, hosts = self.calls, self.hosts
        self.engine.thread.start()
        check_facts(calls.all_gather_object("hosts", lambda: {"hosts": str(hosts)})())
        if self.heartbeat is not None:
            self.heartbeat.open(calls, [rank for host in hosts if calls.rank not in host for rank in host])
        self.collectives.open(calls)
        self.messages.open(calls)

    # --- shared variables --------------------------------------------------------------------------------

    def share(self, rank: int, name: str, like: Buffer) -> Shared:
        return self.centers.share(name, like)

    def store(self, shared: Shared, values: Buffer, version: int = 0) -> None:
        self.centers.store(shared, values, version)

    def version(self, shared: Shared) -> int:
        return self.centers.version(shared)

    def in_common(self, name: str, like: Buffer) -> Buffer:
        return self.centers.in_common(name, like)

    def place(self, values: Buffer) -> Buffer:
        return self.collectives.place(values)

    # --- agreement ---------------------------------------------------------------------------------------

    def all_gather_object(self, name: str, mine: Callable[[], Any]) -> Callable[[], list[Any]]:
        return self.calls.all_gather_object(name, mine)

    def stop_protocol(self, prepare: Callable[[], int], decide: Callable[[int], None]) -> Callable[[], None]:
        """Rank 0 starts the stop protocol at most once. Signal handlers only enqueue the request."""
        queries = self.queries
        begun: list[bool] = []

        def start(_: object) -> None:
            steps: dict[int, int] = {}
            if not begun:
                begun.append(True)
                queries.ask_all(
                    "next step", None, steps, lambda: queries.ask_all("stop at", max(steps.values()), {})
                )

        queries.answer("next step", lambda _: prepare())
        queries.answer("stop at", decide)
        queries.answer("stop", start)
        return lambda: self.engine.defer(lambda: queries.ask(0, "stop", None, lambda _: None))

    def await_stop(self, decided: Callable[[], bool]) -> None:
        """Wait for the decision and watch the others: a worker that hangs never reports its step."""
        self.calls.until("agreeing where all stop", decided)

    # --- the run -----------------------------------------------------------------------------------------

    def wrap(self, worker: Worker, requests: Iterator[Request]) -> Iterator[Request]:
        return requests

    def join(self, worker: Worker) -> Endpoint:
        self.calls.serve(worker)
        self.calls.barrier("begin")
        self.begin()
        return self.endpoint

    def run(self, tasks: Sequence[Task]) -> None:
        (task,) = tasks

        def compute(request: Request) -> int:
            self.calls.check()  # a worker that never waits would go on to the end of its data
            return task.compute(request)

        try:
            drive(Task(task.worker, task.requests, compute), self.join(task.worker))
        except BaseException as cause:
            if not self.original.here:
                raise
            error = failure(task.worker, self.endpoint.doing, cause)
            raise error from (cause if error is not cause else error.__cause__)

    def state(self) -> dict[str, Any]:
        """Return how this worker is, for those that wait for it."""
        calls, mailbox = self.calls, self.mailbox
        waiting, doing, worker = calls.waiting, self.endpoint.doing, calls.worker
        sent, received, parts = self.messages.counts
        sent += mailbox.sent
        received += self.engine.received - mailbox.incoming
        return {
            "round": getattr(worker, "round", 0),
            "doing": "its start" if doing is None else busy_at(worker, doing),
            "waiting": str(waiting),
            "where": getattr(worker, "whereabouts", str)(),
            "sent": sent,
            "received": received,
            "progress": [
                calls.waits,
                self.collectives.memories.moved,
                sent,
                received,
                mailbox.wire.parts + parts,
            ],
            "line": "" if waiting else line(),
            "stacks": "" if waiting else stacks(),
        }

    # --- the end -----------------------------------------------------------------------------------------

    def leave(self, error: BaseException | None) -> None:
        """Serve the others until all have left; after an error, tell them and go. In a forked copy do nothing."""
        if self.original.here:
            self.gone = True
            if error is None:
                self.departures.tell_left()
                self.calls.until("the end of the others", lambda: self.departures.complete)
                self.hook.remove()
            else:
                self.collectives.memories.abort()
                self.report(error)
            self.engine.close(orderly=error is None)
            self.collectives.memories.close()
            self.messages.close()
            self.centers.close()
        if self.heartbeat is not None:
            self.heartbeat.close()  # a forked copy has no heartbeat thread, so closing it sends nothing

    def report(self, error: BaseException) -> None:
        """Broadcast the failure so that every rank's error names the culprit.

        A rank that stopped because of another rank does not broadcast again.
        """
        until = time.monotonic() + LAST_WORDS
        if isinstance(error, PeerFailed):
            tell_guard("heard")
        try:
            if not isinstance(error, PeerFailed):
                self.departures.tell_failure(str(error))
            self.departures.tell_left()
            while not self.departures.complete and time.monotonic() < until:
                self.engine.progress()
        except PeerFailed:
            return  # a dead process hears nothing, and `error` is what is raised

    def leave_uncaught(self, error: BaseException) -> None:
        """Tell the others of an uncaught exception, unless they have been told."""
        worker = self.calls.worker
        if not self.gone and worker is not None:
            self.leave(failure(worker, self.endpoint.doing, error))


class ProcessEndpoint(Endpoint):
    """What performs one worker's requests: the parts of its session."""

    def __init__(
        self, calls: BlockingCalls, messages: HostMessages, collectives: Collectives, centers: Centers
    ) -> None:
        self.calls, self.rank = calls, calls.rank
        self.begun: dict[Communication, Callable[[Request], object]] = {}  # what waits for it
        self.background = {**centers.background, **collectives.background, **messages.background}
        self._handlers: dict[type[Request], Callable[[Any], object]] = {
            Exchange: calls.perform,
            RollCall: calls.perform,
            Script: calls.run,
            Sleep: calls.sleep,
            Start: self.start,
            Wait: self.wait,
            **messages.handlers,
            **centers.handlers,
            **collectives.handlers,
        }

    @property
    def handlers(self) -> dict[type[Request], Callable[[Any], object]]:
        return self._handlers

    def check(self) -> None:
        self.calls.check()

    def start(self, request: Start) -> None:
        """Begin a request that goes on beside the worker's own."""
        asked, calls = request.request, self.calls
        begin = self.background.get(type(asked))
        if begin is None:
            self.begun[asked] = partial(calls.finish, calls.engine.start(asked, calls.worker))
        else:
            self.begun[asked] = begin(asked)

    def wait(self, request: Wait) -> None:
        """Wait for what was started."""
        finish = self.begun.pop(request.request, None)
        if finish is None:
            raise RuntimeError(f"{request} waits for what was not started")
        finish(request)


class UncaughtErrors:
    """Ends the job after an uncaught exception, when its traceback, and those of others, are printed.

    leave: tells the others of it. end_job: ends every process. Of several sessions each tells its own others.
    """

    def __init__(
        self, leave: Callable[[BaseException], None], original: Original, end_job: Callable[[], None]
    ) -> None:
        self.leave, self.original, self.end_job = leave, original, end_job
        self.removed = False
        self.before = sys.excepthook
        sys.excepthook = self.hook

    def hook(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """Print the traceback, tell the others, and end this process."""
        all_ = [self]
        while (earlier := owner(all_[-1].before)) is not None:
            all_.append(earlier)
        all_[-1].before(kind, error, trace)
        if self.original.here:
            output.flush()
            for each in all_:
                each.leave(error)
            time.sleep(LAST_WORDS)
            if isinstance(error, TimedOut):  # a process is stopped or cut off, and will not end by itself
                self.end_job()
            code = 128 + int(SIGINT) if issubclass(kind, KeyboardInterrupt) else 1
            os._exit(code)  # the end of a wire may wait for the dead

    def remove(self) -> None:
        """Restore the hook that was there before, when those that came later have been removed as well."""
        self.removed = True
        while (last := owner(sys.excepthook)) is not None and last.removed:
            sys.excepthook = last.before


def owner(hook: object) -> UncaughtErrors | None:
    """Return the object whose method a hook for uncaught exceptions is; None for hooks of others."""
    found = getattr(hook, "__self__", None)
    return found if isinstance(found, UncaughtErrors) else None


def busy_at(worker: Worker | None, doing: Request) -> str:
    """Return what a worker that does not wait is at: its last request, or the code of a loop of the user's."""
    if worker is None or worker.calling is None:
        return str(doing)
    return worker.place if worker.calling else f"its own code, step {worker.clock}"


def end_stuck(rank: int, words: str) -> NoReturn:
    """End this process because another worker has failed, and this one is stuck in the user's code."""
    print(f"worker {rank} ends at {line()}, because {words}", file=sys.stderr, flush=True)
    os._exit(1)
