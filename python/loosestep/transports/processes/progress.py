"""The progress engine of a process: each call advances its sends, its receives and what it has started.

`ProgressEngine.progress` is called by the worker's own thread while it waits and by the progress thread while it
computes, one at a time: so shards are served, and what was started goes on, during a gradient. `BlockingCalls` is
the worker's own side: it begins a request and waits until it is done.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from loosestep.foundation.errors import PeerFailed
from loosestep.lowering.requests import Script
from loosestep.transports.continuation import Continuation
from loosestep.transports.processes.wire import LAST_OF_WORK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from loosestep import _core
    from loosestep.requests import Communication, Request, Sleep
    from loosestep.requests.worker import Worker
    from loosestep.transports.forks import Original
    from loosestep.transports.processes.collective_slots import CollectiveSlot
    from loosestep.transports.processes.departures import Departures
    from loosestep.transports.processes.liveness import FailureDetector, Watch
    from loosestep.transports.processes.mailbox import Arrivals, Mailbox, Operation, Operations
    from loosestep.transports.processes.queries import Queries

PAUSE = 1e-3  # seconds between two calls by the progress thread
IDLE_PAUSE = 8e-3  # where nobody waits for it: each call takes the interpreter from a worker that computes
PATIENCE = 2.0  # seconds for the worker to notice that another has failed
SPINS, FEW = 200, 2  # calls without news before a waiting worker naps: where it waits for a short time, and else
SHORT = 1e-3  # seconds of the wait before, up to which that is expected; spinning takes cores from other processes
NAP, LONGEST_NAP = 5e-5, 1e-3  # seconds; a nap is a hundredth of the wait so far
REASON = 2.0  # seconds for the reason of an abort to come


class NativeMessages(Protocol):
    """Messages that the core carries, in memory of a host."""

    def advance(self) -> bool:
        """Move everything on without waiting, and return whether anything came."""

    def rest(self, seconds: float) -> None:
        """Sleep for so long at most, or until something may have come."""


class ProgressEngine:
    """Polls the wire, hands every message to what expects it, and resumes what can go on.

    arrivals: what is done with messages, by kind. operations: what begins requests, by type. slots: collectives in
    a host's memory that are to be advanced too; messages: those in such memory. give_up: called by the progress
    thread with the words of another worker's failure when this worker has not noticed it for `PATIENCE` seconds.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        arrivals: Arrivals,
        operations: Operations,
        slots: Sequence[CollectiveSlot],
        departures: Departures,
        give_up: Callable[[str], None],
        messages: NativeMessages | None = None,
    ) -> None:
        self.messages = messages
        self.wire, self.lock, self.rank = mailbox.wire, mailbox.lock, mailbox.rank
        self.arrivals, self.operations, self.slots = arrivals, operations, slots
        self.departures, self.give_up = departures, give_up
        self.received = 0  # messages of work that came
        self.serves = False  # others reach variables that this process keeps
        self.started = 0  # continuations that are not done
        self.ready: deque[Continuation] = deque()  # what they waited for is done
        self.deferred: deque[Callable[[], None]] = deque()  # by signal handlers, which must not touch the wire
        self.broken: BaseException | None = None  # what went wrong in the progress thread
        self.closing = threading.Event()
        self.thread = threading.Thread(target=self.run_thread, name="loosestep progress", daemon=True)

    # --- progress ----------------------------------------------------------------------------------------

    def progress(self) -> bool:
        """Move everything on without blocking, and return whether anything came."""
        with self.lock:
            came = False
            while self.deferred:
                self.deferred.popleft()()
            for source, header, content in self.wire.poll():
                came = True
                self.received += header.kind <= LAST_OF_WORK
                self.arrivals[header.kind](source, header, content)
            if self.messages is not None and self.messages.advance():
                came = True
            while self.ready:
                self.resume(self.ready.popleft())
            for slot in self.slots:
                if slot.advance():
                    came = True
                    while self.ready:
                        self.resume(self.ready.popleft())
            return came

    @property
    def pause(self) -> float:
        """Return the seconds until the progress thread calls again.

        What others send before this worker asks for it waits meanwhile, and the worker's own calls do not.
        """
        return PAUSE if self.serves or self.started else IDLE_PAUSE

    def run_thread(self) -> None:
        """Make progress while the worker computes."""
        try:
            while not self.closing.wait(self.pause):
                self.progress_if_free()
                failed = self.departures.failed
                if failed is not None and time.monotonic() - self.departures.failed_at > PATIENCE:
                    self.give_up(failed[1])
        except BaseException as error:  # raised again where the worker waits
            self.broken = error

    def progress_if_free(self) -> None:
        """Make progress unless another thread is at it."""
        if self.lock.acquire(blocking=False):
            try:
                self.progress()
            finally:
                self.lock.release()

    def defer(self, call: Callable[[], None]) -> None:
        """Let the next progress make a call; for signal handlers."""
        self.deferred.append(call)

    def rest(self, seconds: float) -> None:
        """Sleep for about so long, or until something may have come; the other thread may make progress."""
        rest = self.wire.rest if self.messages is None else self.messages.rest
        rest(seconds)

    def close(self, *, orderly: bool) -> None:
        """Stop the progress thread and give the wire back."""
        self.closing.set()
        if self.thread.is_alive():
            self.thread.join(2.0)
        with self.lock:
            self.wire.close(orderly=orderly)

    # --- requests ----------------------------------------------------------------------------------------

    def begin(self, request: Communication, worker: Worker) -> Operation:
        """Begin a request that is not lowered any further."""
        begin = self.operations.get(type(request))
        if begin is None:
            raise TypeError(f"worker {self.rank} cannot begin {request}")
        with self.lock:
            return begin(request, worker)

    def start(self, request: Communication, worker: Worker) -> Continuation:
        """Begin a request, lowered or not, that goes on beside the worker's own."""
        requests = request.requests if isinstance(request, Script) else iter((request,))
        continuation = Continuation(worker, self.rank, requests, beside=True)
        with self.lock:
            self.started += 1
            self.resume(continuation)
        return continuation

    def resume(self, continuation: Continuation) -> None:
        """Begin its requests one after the other, up to the first that is not done at once."""
        try:
            for request in continuation.requests:
                operation = self.begin(request, continuation.worker)
                if operation.left:
                    continuation.waiting = request
                    operation.then = partial(self.ready.append, continuation)
                    return
        except BaseException as error:  # raised again where it is waited for
            continuation.error = error
        continuation.done = time.monotonic()
        self.started -= 1


class BlockingCalls:
    """One worker's calls that return when what they are for is done."""

    def __init__(
        self,
        engine: ProgressEngine,
        queries: Queries,
        departures: Departures,
        detector: FailureDetector,
        original: Original,
    ) -> None:
        self.engine, self.queries, self.departures = engine, queries, departures
        self.detector, self.original, self.rank = detector, original, engine.rank
        self.worker: Any = None
        self.waiting: str | Request = ""  # for what, while it waits, here or in the core
        self.waits = 0  # that were begun
        self.spins = SPINS

    def serve(self, worker: Worker) -> None:
        """Make the calls of this worker from now on."""
        self.worker = worker

    @property
    def place(self) -> str:
        """What a loop of the user's has called, for people; "" where there is none."""
        found: str = getattr(self.worker, "place", "")
        return found

    def check(self) -> None:
        """Raise if another worker has failed, or the progress thread; or in a forked copy of this process."""
        self.original.require(self.rank)
        self.departures.check()
        if self.engine.broken is not None:
            raise self.engine.broken

    # --- waiting -----------------------------------------------------------------------------------------

    def until(self, what: str | Request, ready: Callable[[], bool], *, watched: bool = True) -> None:
        """Block until `ready`, making progress meanwhile; raise if waiting is in vain.

        what: what is waited for, in words or as a request. watched: whether to look after the other workers.
        """
        if os.getpid() != self.original.pid:
            self.original.require(self.rank)
        watch: Watch | None = None
        began, idle = time.monotonic(), 0
        self.waits += 1
        self.waiting = what if watched else ""
        try:
            while not ready():
                if self.engine.progress():
                    idle = 0
                    continue
                idle += 1
                self.engine.wire.pause()
                if idle > self.spins:
                    self.spins = FEW
                    self.check()
                    self.engine.rest(min(max(NAP, (time.monotonic() - began) / 100), LONGEST_NAP))
                    if watched:
                        watch = watch or self.detector.watch(self.place or what, began)
                        watch.look()
        finally:
            self.waiting = ""
            self.spins = SPINS if time.monotonic() - began < SHORT else FEW

    def retry(self, request: Request, attempt: Callable[[], _core.Said], said: _core.Said) -> None:
        """Go on with a call of the core that did not end at once: repeat it, and look after those that are late.

        attempt: makes the call, each time with a deadline of its own. said: what it gave the first time.
        """
        if said == "waiting":
            watch = self.detector.watch(self.place or request, time.monotonic())
        while said == "waiting":
            self.engine.progress()
            self.check()
            watch.look()
            said = attempt()
        if said == "aborted":
            self.await_reason()

    def await_reason(self) -> None:
        """Raise what the worker that aborted a collective has said, when its message comes."""
        until = time.monotonic() + REASON
        self.until("word of a failure", lambda: time.monotonic() > until, watched=False)
        raise PeerFailed(-1, "without a word")

    # --- requests ----------------------------------------------------------------------------------------

    def perform(self, request: Communication) -> None:
        """Begin a request and wait for it."""
        operation = self.engine.begin(request, self.worker)
        if operation.left:
            self.until(request, lambda: not operation.left)

    def run(self, request: Script) -> None:
        """Begin a lowered request and wait for it."""
        self.finish(self.engine.start(request, self.worker), request)

    def finish(self, continuation: Continuation, request: Request) -> None:
        """Wait for what was started, and raise its error."""
        self.until(request, lambda: continuation.done is not None)
        if continuation.error is not None:
            raise continuation.error

    def sleep(self, request: Sleep) -> None:
        """Make progress for so many seconds."""
        until = time.monotonic() + request.seconds
        self.until(str(request), lambda: time.monotonic() >= until, watched=False)

    # --- agreement ---------------------------------------------------------------------------------------

    def inquire(self, topic: str, argument: Any = None) -> list[Any]:
        """Return every rank's answer to a question, in rank order."""
        answers: dict[int, Any] = {}
        self.queries.ask_all(topic, argument, answers)
        size = self.queries.mailbox.size
        self.until(f"asking for {topic!r}", lambda: len(answers) == size)
        return [answers[rank] for rank in range(size)]

    def all_gather_object(self, name: str, mine: Callable[[], Any]) -> Callable[[], list[Any]]:
        """Return a function that gathers what `mine` (JSON) gives on every rank, in rank order."""
        self.queries.answer(name, lambda _: mine())
        return partial(self.inquire, name)

    def barrier(self, name: str) -> None:
        """Block until every rank has called this."""
        self.all_gather_object(name, lambda: True)()
