"""Matching of messages: each finds the receive that was posted for it, or is kept until one is."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from loosestep.requests import Exchange
from loosestep.transports.matching import check_message
from loosestep.transports.processes.wire import DTYPES, Header, Kind

if TYPE_CHECKING:
    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker
    from loosestep.transports.processes.wire import Wire

Key: TypeAlias = tuple[int, int, int]  # (source, kind, tag)
Arrivals: TypeAlias = "dict[int, Callable[[int, Header, bytes | None], None]]"
"""What is done with a message that came, by its kind."""
Operations: TypeAlias = "dict[type[Request], Callable[[Any, Worker], Operation]]"
"""What begins a request, by its type."""
DATA = int(Kind.DATA)


class Operation:
    """A request in flight, in so many parts; `then` is called when the last part is done."""

    __slots__ = ("left", "then")

    def __init__(self, left: int) -> None:
        self.left = left
        self.then: Callable[[], None] | None = None

    def finish_part(self) -> None:
        """Count one part as done."""
        self.left -= 1
        if not self.left and self.then is not None:
            self.then()


class UnexpectedMessage:
    """A message that came before its receive was posted."""

    __slots__ = ("content", "header", "receive", "whole")

    def __init__(self, header: Header, content: Buffer) -> None:
        self.header, self.content = header, content
        self.whole = False
        self.receive: PostedReceive | None = None

    def complete(self) -> None:
        """Note that its payload is here."""
        self.whole = True
        if self.receive is not None:
            self.hand_over()

    def hand_over(self) -> None:
        """Write it where its receive says."""
        assert self.receive is not None
        self.receive.into[...] = self.content
        self.receive.finish(self.header)


class PostedReceive:
    """Where a message is to be written, and what is then done."""

    __slots__ = ("into", "notes", "operation", "source", "worker")

    def __init__(
        self, source: int, into: Buffer, worker: Worker, operation: Operation, notes: dict[int, float] | None
    ) -> None:
        self.source, self.into, self.worker = source, into, worker
        self.operation, self.notes = operation, notes

    def check(self, header: Header) -> None:
        """Raise Mismatch if the message is not what is expected."""
        if header.size != self.into.size or header.dtype != self.into.dtype.num:
            check_message(self.source, np.empty(header.size, DTYPES[header.dtype]), self.worker, self.into)

    def finish(self, header: Header) -> None:
        """Note that the message is in its place."""
        if self.notes is not None:
            self.notes[self.source] = header.note
        self.operation.finish_part()


class Mailbox:
    """One process's messages with content, over a wire. Callers hold `lock`.

    sent: messages of work that have left here; incoming: those whose payload is still on its way.
    """

    def __init__(self, wire: Wire) -> None:
        self.wire, self.rank, self.size = wire, wire.rank, wire.size
        self.lock = threading.RLock()
        self.unexpected: dict[Key, deque[UnexpectedMessage]] = defaultdict(deque)
        self.posted: dict[Key, deque[PostedReceive]] = defaultdict(deque)
        self.numbers = 0
        self.sent = self.incoming = 0
        self.operations: Operations = {Exchange: self.exchange}
        self.arrivals: Arrivals = {Kind.DATA: self.deliver, Kind.VALUE: self.deliver}

    def number(self) -> int:
        """Return a number that no other question of this process has."""
        self.numbers += 1
        return self.numbers

    def send(
        self, to: int, header: Header, payload: Buffer | None = None, done: Callable[[], None] | None = None
    ) -> None:
        """Begin to send a message of work; `done` is called when the payload may be changed again."""
        self.sent += 1
        self.wire.send(to, header, payload, done)

    def exchange(self, request: Exchange, worker: Worker) -> Operation:
        """Begin every send of a request, and post every receive."""
        operation = Operation(len(request.sends) + len(request.recvs))
        tag, notes, round_, note = request.tag, request.notes, worker.round, request.note
        for to, buf in request.sends:
            self.sent += 1
            header = Header(DATA, buf.dtype.num, buf.size, 0, round_, tag, note)
            self.wire.send(to, header, buf, operation.finish_part)
        for source, into in request.recvs:
            self.post((source, DATA, tag), PostedReceive(source, into, worker, operation, notes))
        return operation

    def post(self, key: Key, receive: PostedReceive) -> None:
        """Post a receive for a message that is here, on its way, or still to come."""
        queue = self.unexpected.get(key)
        if queue is None:
            self.posted[key].append(receive)
            return
        message = queue.popleft()
        if not queue:
            del self.unexpected[key]  # tags are never used again
        receive.check(message.header)
        message.receive = receive
        if message.whole:
            message.hand_over()

    def deliver(self, source: int, header: Header, content: bytes | None) -> None:
        """Write a message where the receive that waits for it says, or keep it until one is posted."""
        key = (source, header.kind, header.tag)
        queue = self.posted.get(key)
        if queue is not None:
            receive = queue.popleft()
            if not queue:
                del self.posted[key]
            receive.check(header)
            self.read(source, header, content, receive.into, lambda: receive.finish(header))
            return
        message = UnexpectedMessage(header, np.empty(header.size, DTYPES[header.dtype]))
        self.unexpected[key].append(message)
        self.read(source, header, content, message.content, message.complete)

    def read(
        self, source: int, header: Header, content: bytes | None, into: Buffer, done: Callable[[], None]
    ) -> None:
        """Write a message's payload into a buffer, and call `done` when all of it is there."""
        if content is None:
            self.incoming += 1
            self.wire.receive(source, into, partial(self.finish_read, done))
        else:
            into[...] = np.frombuffer(content, DTYPES[header.dtype])
            done()

    def finish_read(self, done: Callable[[], None]) -> None:
        """Note that a long payload is whole."""
        self.incoming -= 1
        done()
