"""One worker in each of several processes, over a wire: the session and its endpoint."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from signal import SIGINT
from typing import TYPE_CHECKING, Any

from loosestep.foundation.errors import PeerFailed, TimedOut
from loosestep.lowering.requests import Hosted, RollCall, Script
from loosestep.requests import Exchange, Fetch, Push, Shared, Sleep, Start, Wait
from loosestep.transports.base import Endpoint, Session, Task, drive, failure
from loosestep.transports.forks import Original
from loosestep.transports.matching import check_facts
from loosestep.transports.mpi.liveness import Watch
from loosestep.transports.mpi.progress import Post, Strand
from loosestep.transports.mpi.stacks import line, stacks
from loosestep.transports.stopwatch import Stopwatch

RECORD = "LOOSESTEP_BEGUN"  # where the file is that tells a rank's guard how far the rank is

if TYPE_CHECKING:
    from types import TracebackType

    from loosestep.lowering.hierarchical import Hosts
    from loosestep.requests import Buffer, Communication, Request
    from loosestep.requests.worker import Worker
    from loosestep.transports.mpi.wire import Wire

SPINS = 200  # turns without news before a waiting worker naps
NAP, LONGEST_NAP = 5e-5, 1e-3  # seconds; a nap is a twentieth of the wait so far
LAST_WORDS = 1.0  # seconds for the others to hear of a failure


class ProcessSession(Stopwatch, Session):
    """This process's part of a run."""

    hosted = False

    def __init__(self, wire: Wire, hosts: Hosts, silence: float, deadline: float) -> None:
        super().__init__()
        self.silence, self.deadline, self.post = silence, deadline, Post(wire)
        self.size, self.ranks = wire.size, (wire.rank,)
        self.endpoint = ProcessEndpoint(self)
        self.native = frozenset(self.endpoint.handlers)
        self.post.answer("state", lambda _: self.endpoint.state())
        self.post.answer("version", self.post.pieces.version)
        self.original = Original()
        self.gone = False  # it has left
        self.hook = LastHook(self, wire.end_job)
        self.post.unheard = self.end_unheard
        self.post.helper.start()
        self.hosts = hosts
        check_facts(self.surveying("hosts", lambda: {"hosts": str(hosts)})())

    # --- shared variables --------------------------------------------------------------------------------

    def share(self, rank: int, name: str, like: Buffer) -> Shared:
        """Every rank keeps a piece; rank 0's values are the start."""
        shared: Shared = self.post.pieces.share(name, like)
        self.meet(f"share {name}")
        if rank == 0:
            self.store(shared, like)
        self.meet(f"shared {name}")
        return shared

    def store(self, shared: Shared, values: Buffer, version: int = 0) -> None:
        pending = self.post.pieces.store(shared, values, version)
        self.endpoint.until(f"storing {shared.name!r}", lambda: not pending.left)

    def version(self, shared: Shared) -> int:
        """Whoever has no piece of it does not know."""
        moves: int = max(self.inquire("version", shared.store))
        return moves

    # --- agreement ---------------------------------------------------------------------------------------

    def surveying(self, topic: str, mine: Callable[[], Any]) -> Callable[[], list[Any]]:
        self.post.answer(topic, lambda _: mine())
        return lambda: self.inquire(topic)

    def inquire(self, topic: str, argument: Any = None) -> list[Any]:
        """What every rank says, in rank order."""
        said: dict[int, Any] = {}
        self.post.ask_all(topic, argument, said)
        self.endpoint.until(f"asking for {topic!r}", lambda: len(said) == self.size)
        return [said[rank] for rank in range(self.size)]

    def meet(self, topic: str) -> None:
        """Nobody goes on before all are here."""
        self.surveying(topic, lambda: True)()

    def halting(self, prepare: Callable[[], int], decide: Callable[[int], None]) -> Callable[[], None]:
        """Rank 0 keeps it to one halt. Signal handlers only leave an errand."""
        post = self.post
        begun: list[bool] = []

        def halt(_: object) -> None:
            headings: dict[int, int] = {}
            if not begun:
                begun.append(True)
                post.ask_all(
                    "heading", None, headings, lambda: post.ask_all("halt at", max(headings.values()), {})
                )

        post.answer("heading", lambda _: prepare())
        post.answer("halt at", decide)
        post.answer("halt", halt)
        return lambda: post.errands.append(lambda: post.ask(0, "halt", None, lambda _: None))

    def await_halt(self, decided: Callable[[], bool]) -> None:
        """Watched as every wait: the step is known when all have said theirs, which the stopped do not."""
        self.endpoint.until("agreeing where all stop", decided)

    # --- the run -----------------------------------------------------------------------------------------

    def join(self, worker: Worker) -> Endpoint:
        self.endpoint.worker = worker
        self.meet("begin")
        self.begin()
        return self.endpoint

    def leave(self, error: BaseException | None) -> None:
        """Serve the others until all have left; after an error, tell them and go. Of a forked copy: nothing."""
        if not self.original.here:
            return
        self.gone = True
        if isinstance(error, PeerFailed):
            tell_guard("heard")
        if error is None:
            self.post.leave()
            self.endpoint.until("the end of the others", lambda: len(self.post.left) == self.size)
            self.hook.remove()
        else:
            self.tell(error)
        self.post.close(orderly=error is None)

    def tell(self, error: BaseException) -> None:
        """Everybody's error names this worker; who heard of another's failure passes nothing on."""
        until = time.monotonic() + LAST_WORDS
        try:
            if not isinstance(error, PeerFailed):
                self.post.fail(str(error))
            self.post.leave()
            while len(self.post.left) < self.size and time.monotonic() < until:
                self.post.turn()
        except PeerFailed:
            return  # a dead one hears nothing, and `error` is what is raised

    def heard(self, rank: int) -> float:
        """When (time.monotonic) a sign of life of that worker came last."""
        return self.post.wire.heard(rank)

    def moved(self) -> int:
        """A count that grows while collectives in memory go on."""
        return 0

    def end_unheard(self, words: str) -> None:
        """Another worker has failed, and this one is stuck in code of the user."""
        print(f"worker {self.post.rank} ends at {line()}, because {words}", file=sys.stderr, flush=True)
        os._exit(1)

    def check(self) -> None:
        """Raise if another worker has failed, or the helper thread; or in a forked copy of this process."""
        self.original.require(self.post.rank)
        if self.post.failed is not None:
            raise PeerFailed(*self.post.failed)
        if self.post.broken is not None:
            raise self.post.broken

    def run(self, tasks: Sequence[Task]) -> None:
        (task,) = tasks

        def compute(request: Request) -> int:
            self.check()  # a worker that never waits would go on to the end of its data
            return task.compute(request)

        try:
            drive(replace(task, compute=compute), self.join(task.worker))
        except BaseException as cause:
            if not self.original.here:
                raise
            error = failure(task.worker, self.endpoint.doing, cause)
            raise error from (cause if error is not cause else error.__cause__)


class LastHook:
    """An exception that nobody catches ends the job, once its traceback, and those of the others, are printed.

    The others hear of it here, unless whoever passed it on has told them.
    """

    def __init__(self, session: ProcessSession, end_job: Callable[[], None]) -> None:
        self.session, self.end_job = session, end_job
        self.before = sys.excepthook
        sys.excepthook = self.hook

    def hook(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        self.before(kind, error, trace)
        if self.session.original.here:
            sys.stdout.flush()
            sys.stderr.flush()
            if not self.session.gone and self.session.endpoint.worker is not None:
                self.session.leave(failure(self.session.endpoint.worker, self.session.endpoint.doing, error))
            time.sleep(LAST_WORDS)
            if isinstance(error, TimedOut):  # somebody is stopped or cut off, and will not end by itself
                self.end_job()
            code = 128 + int(SIGINT) if issubclass(kind, KeyboardInterrupt) else 1
            os._exit(code)  # MPI's own end waits for those who are dead

    def remove(self) -> None:
        if sys.excepthook == self.hook:
            sys.excepthook = self.before


class ProcessEndpoint(Endpoint):
    """Performs requests: begins them at the post, and turns until they are done."""

    def __init__(self, session: ProcessSession) -> None:
        self.session, self.post, self.rank = session, session.post, session.post.rank
        self.worker: Any = None
        self.waiting: str | Request = ""  # for what, while it waits
        self.turns = 0  # requests performed
        self.strands: dict[Communication, Strand] = {}
        self._handlers: dict[type[Request], Callable[[Any], object]] = {
            Exchange: self.perform,
            Fetch: self.perform,
            Push: self.perform,
            RollCall: self.perform,
            Hosted: self.perform,
            Script: self.carry_out,
            Sleep: self.sleep,
            Start: self.start,
            Wait: self.wait,
        }

    @property
    def handlers(self) -> dict[type[Request], Callable[[Any], object]]:
        return self._handlers

    def check(self) -> None:
        self.session.check()

    def perform(self, request: Communication) -> None:
        pending = self.post.begin(request, self.worker)
        self.turns += 1
        if pending.left:
            self.until(request, lambda: not pending.left)

    def start(self, request: Start) -> None:
        self.strands[request.request] = self.post.start(request.request, self.worker)

    def carry_out(self, request: Script) -> None:
        self.finish(self.post.start(request, self.worker), request)

    def wait(self, request: Wait) -> None:
        strand = self.strands.pop(request.request, None)
        if strand is None:
            raise RuntimeError(f"{request} waits for what was not started")
        self.finish(strand, request)

    def finish(self, strand: Strand, request: Request) -> None:
        self.until(request, lambda: not strand.pending.left)
        if strand.error is not None:
            raise strand.error

    def sleep(self, request: Sleep) -> None:
        until = time.monotonic() + request.seconds
        self.until(str(request), lambda: time.monotonic() >= until, watched=False)

    def until(self, what: str | Request, ready: Callable[[], bool], *, watched: bool = True) -> None:
        """Turn until something is ready; look after the others meanwhile."""
        session, idle = self.session, 0
        session.original.require(self.rank)
        watch = Watch(self.post, what, session.heard, session.silence, session.deadline)
        self.waiting = what if watched else ""
        try:
            while not ready():
                idle = 0 if self.post.turn() else idle + 1
                if idle > SPINS:
                    session.check()
                    time.sleep(min(max(NAP, (time.monotonic() - watch.began) / 20), LONGEST_NAP))
                    if watched:
                        watch.look()
        finally:
            self.waiting = ""

    def state(self) -> dict[str, Any]:
        """How this worker is, for those who wait for it."""
        return {
            "round": getattr(self.worker, "round", 0),
            "doing": "its start" if self.doing is None else str(self.doing),
            "waiting": str(self.waiting),
            "turns": self.turns + self.session.moved(),
            "busy": self.post.wire.busy,
            "line": "" if self.waiting else line(),
            "stacks": "" if self.waiting else stacks(),
        }


def tell_guard(word: str) -> None:
    """Write a word into the record that `loosestep run` keeps of this rank, where it was started so."""
    place = os.environ.get(RECORD)
    if place is not None:
        with suppress(OSError), open(place, "a") as file:
            file.write(f"{word}\n")
