"""A worker's end in a world of processes: sends, receives, serves its piece of every shared variable.

Progress is made by `turn`, in the worker's own thread while it waits and in a helper thread while it computes,
one at a time: so a center answers, and what was started goes on, during a gradient.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from loosestep.lowering.requests import Hosted, RollCall, Script
from loosestep.requests import Exchange, Fetch, Push
from loosestep.transports.attendance import Roll
from loosestep.transports.mpi.mailbox import Mail, Pending
from loosestep.transports.mpi.shards import Pieces
from loosestep.transports.mpi.wire import Header, Kind

if TYPE_CHECKING:
    from loosestep.requests import Communication
    from loosestep.requests.worker import Worker
    from loosestep.transports.mpi.lanes import Lane
    from loosestep.transports.mpi.wire import Wire

PAUSE = 1e-3  # seconds between two turns of the helper thread
PATIENCE = 2.0  # seconds for the worker to hear that another has failed


class Strand:
    """A started script, which goes on whenever what it asked for is done."""

    def __init__(self, post: Post, requests: Iterator[Communication], worker: Worker) -> None:
        self.post, self.requests, self.worker = post, requests, worker
        self.pending = Pending(1)
        self.error: BaseException | None = None

    def advance(self) -> None:
        try:
            for request in self.requests:
                under_way = self.post.begin(request, self.worker)
                if under_way.left:
                    under_way.then = self.advance
                    return
        except BaseException as error:  # raised again where it is waited for
            self.error = error
        self.pending.part()


class Post(Mail):
    """Requests of one worker, over a wire."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire)
        self.pieces = Pieces(self)
        self.lanes: list[Lane] = []  # memory of this host, where there are several
        self.roll = Roll(self.size)
        self.calls: dict[int, tuple[RollCall, Pending]] = {}
        self.topics: dict[str, Callable[[Any], Any]] = {}
        self.questions: list[tuple[int, Header, Any]] = []  # asked before their topic was known here
        self.replies: dict[int, Callable[[Any], None]] = {}
        self.errands: deque[Callable[[], None]] = deque()  # of signal handlers, which must not touch the wire
        self.left: set[int] = set()
        self.failed: tuple[int, str] | None = None
        self.failed_at = 0.0
        self.unheard: Callable[[str], None] = lambda words: None  # the worker does not look at `failed`
        self.broken: BaseException | None = None  # what went wrong in the helper thread
        self.closing = threading.Event()
        self.helper = threading.Thread(target=self.help, name="loosestep post", daemon=True)
        self.arrivals: dict[int, Callable[[int, Header, bytes | None], None]] = {
            Kind.DATA: self.arrive,
            Kind.VALUE: self.arrive,
            Kind.FETCH: self.pieces.asked_to_fetch,
            Kind.PUSH: self.pieces.asked_to_change,
            Kind.STORE: self.pieces.asked_to_change,
            Kind.ACK: self.pieces.acknowledged,
            Kind.ROLL: self.called,
            Kind.PRESENT: self.answered,
            Kind.ASK: self.asked,
            Kind.REPLY: self.replied,
            Kind.FAIL: self.told_of_failure,
            Kind.LEFT: lambda source, header, content: self.left.add(source),
        }

    # --- progress ----------------------------------------------------------------------------------------

    def help(self) -> None:
        """The helper thread: turns while the worker computes."""
        try:
            while not self.closing.wait(PAUSE):
                self.turn_if_free()
                if self.failed is not None and time.monotonic() - self.failed_at > PATIENCE:
                    self.unheard(self.failed[1])
        except BaseException as error:  # raised again where the worker waits
            self.broken = error

    def turn_if_free(self) -> None:
        """A turn, unless the worker itself is at it."""
        if self.lock.acquire(blocking=False):
            try:
                self.turn()
            finally:
                self.lock.release()

    def turn(self) -> bool:
        """Move everything on; whether anything came."""
        with self.lock:
            came = False
            while self.errands:
                self.errands.popleft()()
            for source, header, content in self.wire.poll():
                came = True
                self.arrivals[header.kind](source, header, content)
            for lane in self.lanes:
                came |= lane.move()
            return came

    # --- requests ----------------------------------------------------------------------------------------

    def begin(self, request: Communication, worker: Worker) -> Pending:
        """Begin a primitive."""
        with self.lock:
            if isinstance(request, Exchange):
                return self.exchange(request, worker)
            if isinstance(request, Fetch):
                return self.pieces.fetch(request, worker)
            if isinstance(request, Push):
                return self.pieces.push(request)
            if isinstance(request, RollCall):
                return self.call(request)
            if isinstance(request, Hosted):
                return self.lanes[request.lane].enter(request, worker)
        raise TypeError(f"worker {self.rank} cannot begin {request}")

    def start(self, request: Communication, worker: Worker) -> Strand:
        """Begin a primitive or a script, which goes on by itself."""
        strand = Strand(self, request.requests if isinstance(request, Script) else iter((request,)), worker)
        with self.lock:
            strand.advance()
        return strand

    # --- roll call: rank 0 keeps the roll ----------------------------------------------------------------

    def call(self, request: RollCall) -> Pending:
        number, pending = self.number(), Pending(0 if request.present else 1)
        if request.present:
            request.answer[:] = [True]
        else:
            self.calls[number] = request, pending
        header = Header(Kind.ROLL, round=request.round, number=number, note=float(request.present))
        if self.rank == 0:
            self.called(0, header, None)
        else:
            self.wire.send(0, header, None, None)
        return pending

    def called(self, source: int, header: Header, content: bytes | None) -> None:
        asked = RollCall(header.round, bool(header.note))
        for (rank, number), known in self.roll.say(source, asked, (source, header.number)):
            if known.present:
                continue
            answer = Header(Kind.PRESENT, number=number, note=float(known.answer[0]))
            if rank == 0:
                self.answered(0, answer, None)
            else:
                self.wire.send(rank, answer, None, None)

    def answered(self, source: int, header: Header, content: bytes | None) -> None:
        request, pending = self.calls.pop(header.number)
        request.answer[:] = [bool(header.note)]
        pending.part()

    # --- questions ---------------------------------------------------------------------------------------

    def answer(self, topic: str, function: Callable[[Any], Any]) -> None:
        """From now on, questions on this topic are answered by `function`, in whatever thread."""
        with self.lock:
            self.topics[topic] = function
            waiting, self.questions = self.questions, []
            for source, header, question in waiting:
                self.put(source, header, question)

    def ask(self, rank: int, topic: str, argument: Any, then: Callable[[Any], None]) -> None:
        """Ask a rank (itself too); `then` gets the answer."""
        with self.lock:
            number = self.number()
            self.replies[number] = then
            self.say(rank, Kind.ASK, number, [topic, argument])

    def ask_all(
        self, topic: str, argument: Any, answers: dict[int, Any], then: Callable[[], None] | None = None
    ) -> None:
        """Ask every rank; `then` is called when all answers are there."""

        def note(rank: int, answer: Any) -> None:
            answers[rank] = answer
            if len(answers) == self.size and then is not None:
                then()

        for rank in range(self.size):
            self.ask(rank, topic, argument, partial(note, rank))

    def say(self, rank: int, kind: Kind, number: int, what: Any) -> None:
        text = np.frombuffer(json.dumps(what).encode(), np.uint8)
        self.wire.send(rank, Header(kind, "u1", text.size, number), text, None)

    def asked(self, source: int, header: Header, content: bytes | None) -> None:
        self.read(source, header, content, lambda question: self.put(source, header, question))

    def put(self, source: int, header: Header, question: Any) -> None:
        topic, argument = question
        if topic in self.topics:
            self.say(source, Kind.REPLY, header.number, self.topics[topic](argument))
        else:
            self.questions.append((source, header, question))

    def replied(self, source: int, header: Header, content: bytes | None) -> None:
        self.read(source, header, content, self.replies.pop(header.number))

    def read(self, source: int, header: Header, content: bytes | None, then: Callable[[Any], None]) -> None:
        """A text, when it is whole."""
        text = np.empty(header.size, np.uint8)
        self.take_in(source, header, content, text, lambda: then(json.loads(text.tobytes())))

    # --- the end -----------------------------------------------------------------------------------------

    def fail(self, words: str) -> None:
        """Tell everybody that this worker has failed."""
        with self.lock:
            for rank in range(self.size):
                if rank != self.rank:
                    self.say(rank, Kind.FAIL, 0, words)

    def told_of_failure(self, source: int, header: Header, content: bytes | None) -> None:
        def note(words: str) -> None:
            if self.failed is None:
                self.failed_at = time.monotonic()
                self.failed = source, words

        self.read(source, header, content, note)

    def leave(self) -> None:
        """Say that nothing more will be asked; others are served on."""
        with self.lock:
            self.left.add(self.rank)
            for rank in range(self.size):
                if rank != self.rank:
                    self.wire.send(rank, Header(Kind.LEFT), None, None)

    def close(self, *, orderly: bool) -> None:
        """Stop the helper and give the wire back."""
        self.closing.set()
        if self.helper.is_alive():
            self.helper.join(2.0)
        with self.lock:
            self.wire.close(orderly=orderly)
