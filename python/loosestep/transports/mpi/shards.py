"""Shared variables between processes: every rank keeps a piece, and moves it as the others ask.

Variables of one size are cut alike, so that one rule moves pieces of several where they are. Of one source,
questions are answered in the order in which they came; of one variable and owner, a worker has one change on its
way, so that fast workers cannot flood a slow center.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

import numpy as np

from loosestep._core import Center
from loosestep.lowering.collectives import bounds
from loosestep.requests import Shared
from loosestep.transports.mpi.mailbox import Pending, Receipt, pop
from loosestep.transports.mpi.wire import Header, Kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from loosestep.requests import Buffer, Fetch, Push
    from loosestep.requests.worker import Worker
    from loosestep.transports.mpi.mailbox import Mail


class Change(NamedTuple):
    """Of a piece that another rank holds."""

    kind: Kind
    values: Buffer
    sent: Callable[[], None]
    answered: Callable[[], None]
    version: int = 0  # that the piece shall have


class Seen(dict[int, float]):
    """How often each owner's piece was moved when it was read; `into` becomes the least of it."""

    def __init__(self, into: Buffer | None) -> None:
        super().__init__()
        self.into = into

    def __setitem__(self, owner: int, moves: float) -> None:
        super().__setitem__(owner, moves)
        if self.into is not None:
            self.into[:] = min(self.values())


class Pieces:
    """This rank's pieces, by the checksum of the variable's name, and its changes to those of others."""

    def __init__(self, mail: Mail) -> None:
        self.mail = mail
        self.mine: dict[int, Center] = {}
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
                self.mine[number] = Center(like[low:high])
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

    def version(self, number: int) -> int:
        """How often this rank's piece was moved."""
        return self.mine[number].version

    def fetch(self, request: Fetch, worker: Worker) -> Pending:
        notes = Seen(request.version)
        parts = list(self.parts(request.shared, request.into))
        pending = Pending(len(parts))
        for owner, into in parts:
            if owner == self.mail.rank:
                notes[owner] = self.mine[request.shared.store].fetch(into)
                pending.part()
                continue
            number = self.mail.number()
            self.mail.expect((owner, Kind.VALUE, number), Receipt(owner, into, worker, pending, notes))
            self.mail.wire.send(owner, Header(Kind.FETCH, number=request.shared.store, tag=number), None, None)
        return pending

    def push(self, request: Push) -> Pending:
        """Done once it is on its way, or has arrived: of one variable and owner, the next waits for its answer."""
        first = request.shared[0]
        cuts = [[part for _, part in self.parts(first, values)] for values in request.values]
        owners = [owner for owner, _ in self.parts(first, np.empty(0))]
        pending = Pending(len(owners))
        for place, owner in enumerate(owners):
            values = [cut[place] for cut in cuts]
            if owner == self.mail.rank:
                self.move(request.rule, [shared.store for shared in request.shared], values, request.scalars)
                pending.part()
                continue
            done = (nothing, pending.part) if request.arrived else (pending.part, nothing)
            self.change(first.store, owner, Change(Kind.PUSH, packed(request, values), *done))
        return pending

    def move(self, rule: str, numbers: Sequence[int], values: Sequence[Buffer], scalars: Sequence[float]) -> None:
        """My pieces, by a rule."""
        first, *others = (self.mine[number] for number in numbers)
        first.push(rule, others, values, scalars)

    def store(self, shared: Shared, values: Buffer, version: int = 0) -> Pending:
        """Set every piece, moved so often; done when all say so."""
        parts = list(self.parts(shared, values))
        pending = Pending(len(parts))
        for owner, part in parts:
            if owner == self.mail.rank:
                self.mine[shared.store].store(part, version)
                pending.part()
            else:
                self.change(shared.store, owner, Change(Kind.STORE, part.copy(), nothing, pending.part, version))
        return pending

    def change(self, number: int, owner: int, change: Change) -> None:
        line = self.changes[number, owner]
        line.append(change)
        if len(line) == 1:
            self.send_change(number, owner)

    def send_change(self, number: int, owner: int) -> None:
        """The first of a line stays there until it is answered."""
        change = self.changes[number, owner][0]
        values = change.values
        header = Header(change.kind, values.dtype.str[1:], values.size, number, note=change.version)
        self.mail.wire.send(owner, header, values, None)
        change.sent()

    def acknowledged(self, source: int, header: Header, content: bytes | None) -> None:
        pop(self.changes, (header.number, source)).answered()
        if (header.number, source) in self.changes:
            self.send_change(header.number, source)

    def asked_to_fetch(self, source: int, header: Header, content: bytes | None) -> None:
        def answer() -> None:
            piece = self.mine[header.number]
            values = np.empty(piece.size, piece.dtype)
            seen = piece.fetch(values)
            said = Header(Kind.VALUE, values.dtype.str[1:], values.size, tag=header.tag, note=seen)
            self.mail.wire.send(source, said, values, None)

        self.queue(source, header, answer)[0] = True
        self.drain(source)

    def asked_to_change(self, source: int, header: Header, content: bytes | None) -> None:
        values = np.empty(header.size, header.dtype)

        def change() -> None:
            if header.kind == Kind.PUSH:
                self.move(*unpacked(values))
            else:
                self.mine[header.number].store(values, int(header.note))
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


HEAD = Struct("<QQQ")  # of what is pushed: how many bytes of text, of scalars, of each buffer


def packed(request: Push, values: Sequence[Buffer]) -> NDArray[np.uint8]:
    """A push as bytes: what it is, its scalars to the last bit, its values; all begin at multiples of 8."""
    dtype, each = (values[0].dtype.name, values[0].nbytes) if values else ("float64", 0)
    text = json.dumps([request.rule, dtype, *(shared.store for shared in request.shared)]).encode()
    text += b" " * (-len(text) % 8)
    scalars = np.array(request.scalars, np.float64).tobytes()
    head = HEAD.pack(len(text), len(scalars), each) + text + scalars
    stride = each + -each % 8
    content = np.zeros(len(head) + stride * len(values), np.uint8)
    content[: len(head)] = np.frombuffer(head, np.uint8)
    for at, value in zip(count(len(head), stride), values, strict=False):
        content[at : at + each] = value.view(np.uint8)
    return content


def unpacked(content: NDArray[np.uint8]) -> tuple[str, list[int], list[Buffer], list[float]]:
    """(rule, numbers of the variables, values, scalars)."""
    texts, numbers, each = HEAD.unpack_from(content.data)
    scalars = HEAD.size + texts
    first = scalars + numbers
    rule, dtype, *variables = json.loads(content[HEAD.size : scalars].tobytes())
    stride = each + -each % 8
    values = [content[at : at + each].view(dtype) for at in range(first, content.size, stride or 1)]
    return rule, variables, values, content[scalars:first].view(np.float64).tolist()


def nothing() -> None:
    """What follows where nothing does."""
