"""Shared variables between processes: every rank keeps a piece, and changes it as the others ask.

Of one source, questions are answered in the order in which they came; of one variable and owner, a worker has one
change on its way, so that fast workers cannot flood a slow center.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

import numpy as np

from loosestep import ops
from loosestep.buffers import like as buffer_like
from loosestep.collectives import bounds
from loosestep.mail import Pending, Receipt, pop
from loosestep.requests import Shared
from loosestep.wire import Header, Kind

if TYPE_CHECKING:
    from loosestep.mail import Mail
    from loosestep.requests import Add, Buffer, Fetch
    from loosestep.worker import Worker


class Change(NamedTuple):
    """Of a piece that another rank holds."""

    kind: Kind
    values: Buffer
    sent: Callable[[], None]
    answered: Callable[[], None]


class Pieces:
    """This rank's pieces, by the checksum of the variable's name, and its changes to those of others."""

    def __init__(self, mail: Mail) -> None:
        self.mail = mail
        self.mine: dict[int, Buffer] = {}
        self.inbox: dict[int, deque[list[Any]]] = defaultdict(deque)  # by source: [whole?, what to do, variable]
        self.changes: dict[tuple[int, int], deque[Change]] = defaultdict(
            deque
        )  # by (variable, owner); first: sent

    def share(self, name: str, like: Buffer) -> Shared:
        """A variable whose pieces every rank makes from its own values; `store` evens them out."""
        with self.mail.lock:
            number = crc32(name.encode())
            if number not in self.mine:
                low, high = self.edges(like.size)[self.mail.rank : self.mail.rank + 2]
                piece = buffer_like(like[low:high])
                piece[...] = like[low:high]
                self.mine[number] = piece
                self.drain_all()
            return Shared(name, like.size, like.dtype, number)

    def edges(self, size: int) -> list[int]:
        return bounds(size, self.mail.size)

    def parts(self, shared: Shared, buf: Buffer) -> Iterator[tuple[int, Buffer]]:
        """(owner, its part of buf), empty ones left out."""
        edges = self.edges(shared.size)
        for owner in range(self.mail.size):
            if edges[owner] < edges[owner + 1]:
                yield owner, buf[edges[owner] : edges[owner + 1]]

    def fetch(self, request: Fetch, worker: Worker) -> Pending:
        parts = list(self.parts(request.shared, request.into))
        pending = Pending(len(parts))
        for owner, into in parts:
            if owner == self.mail.rank:
                ops.copy(self.mine[request.shared.store], into)
                pending.part()
                continue
            number = self.mail.number()
            self.mail.expect((owner, Kind.VALUE, number), Receipt(owner, into, worker, pending, None))
            self.mail.wire.send(owner, Header(Kind.FETCH, number=request.shared.store, tag=number), None, None)
        return pending

    def add(self, request: Add) -> Pending:
        """Done once it is on its way: of one variable and owner, the next waits for the answer to this."""
        parts = list(self.parts(request.shared, request.delta))
        pending = Pending(len(parts))
        for owner, delta in parts:
            if owner == self.mail.rank:
                ops.axpy(self.mine[request.shared.store], delta, 1.0)
                pending.part()
            else:
                self.change(request.shared.store, owner, Change(Kind.ADD, delta, pending.part, nothing))
        return pending

    def store(self, shared: Shared, values: Buffer) -> Pending:
        """Set every piece; done when all say so."""
        parts = list(self.parts(shared, values))
        pending = Pending(len(parts))
        for owner, part in parts:
            if owner == self.mail.rank:
                ops.copy(part, self.mine[shared.store])
                pending.part()
            else:
                self.change(shared.store, owner, Change(Kind.STORE, part, nothing, pending.part))
        return pending

    def change(self, number: int, owner: int, change: Change) -> None:
        line = self.changes[number, owner]
        line.append(change)
        if len(line) == 1:
            self.send_change(number, owner)

    def send_change(self, number: int, owner: int) -> None:
        """The first of a line stays there until it is answered."""
        change = self.changes[number, owner][0]
        values = change.values.copy()
        self.mail.wire.send(owner, Header(change.kind, values.dtype.str[1:], values.size, number), values, None)
        change.sent()

    def acknowledged(self, source: int, header: Header, content: bytes | None) -> None:
        pop(self.changes, (header.number, source)).answered()
        if (header.number, source) in self.changes:
            self.send_change(header.number, source)

    def asked_to_fetch(self, source: int, header: Header, content: bytes | None) -> None:
        def answer() -> None:
            piece = self.mine[header.number].copy()
            self.mail.wire.send(
                source, Header(Kind.VALUE, piece.dtype.str[1:], piece.size, tag=header.tag), piece, None
            )

        self.queue(source, header, answer)[0] = True
        self.drain(source)

    def asked_to_change(self, source: int, header: Header, content: bytes | None) -> None:
        values = np.empty(header.size, header.dtype)

        def change() -> None:
            piece = self.mine[header.number]
            ops.axpy(piece, values, 1.0) if header.kind == Kind.ADD else ops.copy(values, piece)
            self.mail.wire.send(source, Header(Kind.ACK, number=header.number), None, None)

        entry = self.queue(source, header, change)

        def whole() -> None:
            entry[0] = True
            self.drain(source)

        self.mail.take_in(source, header, content, values, whole)

    def queue(self, source: int, header: Header, what: Callable[[], None]) -> list[Any]:
        """Of one source, in the order in which it asked."""
        entry = [False, what, header.number]
        self.inbox[source].append(entry)
        return entry

    def drain(self, source: int) -> None:
        """Whatever is whole, and known here."""
        box = self.inbox[source]
        while box and box[0][0] and box[0][2] in self.mine:
            box.popleft()[1]()

    def drain_all(self) -> None:
        for source in list(self.inbox):
            self.drain(source)


def nothing() -> None:
    """What follows where nothing does."""
