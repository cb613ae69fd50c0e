"""Buffers between processes: each message finds the receive that waits for it, or waits for one."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from loosestep.transports.matching import check_message
from loosestep.transports.mpi.wire import Header, Kind

if TYPE_CHECKING:
    from loosestep.requests import Buffer, Exchange
    from loosestep.requests.worker import Worker
    from loosestep.transports.mpi.wire import Wire


class Pending:
    """Something under way in so many parts; `then` is called when the last is done."""

    __slots__ = ("left", "then")

    def __init__(self, left: int) -> None:
        self.left = left
        self.then: Callable[[], None] | None = None

    def part(self) -> None:
        """One part is done."""
        self.left -= 1
        if not self.left and self.then is not None:
            self.then()


class Message:
    """What came before anybody waited for it."""

    __slots__ = ("content", "header", "receipt", "whole")

    def __init__(self, header: Header, content: Buffer) -> None:
        self.header, self.content = header, content
        self.whole = False
        self.receipt: Receipt | None = None


class Receipt:
    """Where a message shall go."""

    __slots__ = ("into", "notes", "pending", "source", "worker")

    def __init__(
        self, source: int, into: Buffer, worker: Worker, pending: Pending, notes: dict[int, float] | None
    ) -> None:
        self.source, self.into, self.worker = source, into, worker
        self.pending, self.notes = pending, notes

    def check(self, header: Header) -> None:
        """The message must be what is expected."""
        if header.size != self.into.size or header.dtype != self.into.dtype.str[1:]:
            check_message(self.source, np.empty(header.size, header.dtype), self.worker, self.into)

    def done(self, header: Header) -> None:
        if self.notes is not None:
            self.notes[self.source] = header.note
        self.pending.part()


class Mail:
    """One worker's messages, over a wire. Whoever calls holds `lock`."""

    def __init__(self, wire: Wire) -> None:
        self.wire, self.rank, self.size = wire, wire.rank, wire.size
        self.lock = threading.RLock()
        self.mail: dict[tuple[int, int, int], deque[Message]] = defaultdict(deque)  # by (source, kind, tag)
        self.awaited: dict[tuple[int, int, int], deque[Receipt]] = defaultdict(deque)
        self.numbers = 0

    def number(self) -> int:
        """A number that no other question of this process has."""
        self.numbers += 1
        return self.numbers

    def exchange(self, request: Exchange, worker: Worker) -> Pending:
        pending = Pending(len(request.sends) + len(request.recvs))
        for to, buf in request.sends:
            header = Header(Kind.DATA, buf.dtype.str[1:], buf.size, 0, worker.round, request.tag, request.note)
            self.wire.send(to, header, buf, pending.part)
        for source, into in request.recvs:
            self.expect((source, Kind.DATA, request.tag), Receipt(source, into, worker, pending, request.notes))
        return pending

    def expect(self, key: tuple[int, int, int], receipt: Receipt) -> None:
        """A message shall go there: it is here, or on its way, or will come."""
        box = self.mail.get(key)
        if not box:
            self.awaited[key].append(receipt)
            return
        message = pop(self.mail, key)
        receipt.check(message.header)
        message.receipt = receipt
        if message.whole:
            self.hand_over(message)

    def arrive(self, source: int, header: Header, content: bytes | None) -> None:
        """A buffer has come, or its header has."""
        key = (source, header.kind, header.tag)
        if self.awaited.get(key):
            receipt = pop(self.awaited, key)
            receipt.check(header)
            self.take_in(source, header, content, receipt.into, lambda: receipt.done(header))
            return
        message = Message(header, np.empty(header.size, header.dtype))
        self.mail[key].append(message)
        self.take_in(source, header, content, message.content, lambda: self.complete(message))

    def take_in(
        self, source: int, header: Header, content: bytes | None, into: Buffer, done: Callable[[], None]
    ) -> None:
        """The payload, into its place."""
        if content is None:
            self.wire.receive(source, into, done)
        else:
            into[...] = np.frombuffer(content, header.dtype)
            done()

    def complete(self, message: Message) -> None:
        message.whole = True
        if message.receipt is not None:
            self.hand_over(message)

    def hand_over(self, message: Message) -> None:
        assert message.receipt is not None
        message.receipt.into[...] = message.content
        message.receipt.done(message.header)


def pop(boxes: dict[Any, deque[Any]], key: Any) -> Any:
    """The oldest of a box; an empty box is forgotten, for tags are used once."""
    box = boxes[key]
    first = box.popleft()
    if not box:
        del boxes[key]
    return first
