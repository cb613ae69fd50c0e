"""Shared variables between processes: every rank keeps a shard of each, and moves it as the others ask.

Variables of one size are cut alike, so that one rule moves shards of several where they are. Questions of one
source are answered in the order in which they came. Of one variable and owner a worker has one change on its way,
so that fast workers cannot flood a slow center.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import numpy as np

from loosestep._core import Center
from loosestep.foundation import buffers
from loosestep.lowering.collectives import bounds
from loosestep.requests import Fetch, Push, Shared
from loosestep.transports.keyed_queues import pop
from loosestep.transports.processes.components import Centers
from loosestep.transports.processes.mailbox import Operation, PostedReceive
from loosestep.transports.processes.wire import DTYPES, Header, Kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from loosestep.requests import Buffer
    from loosestep.requests.worker import Worker
    from loosestep.transports.processes.components import Background, Handlers
    from loosestep.transports.processes.mailbox import Arrivals, Mailbox, Operations
    from loosestep.transports.processes.progress import BlockingCalls


class Change(NamedTuple):
    """What another rank is to do with its shard."""

    kind: Kind
    values: Buffer
    sent: Callable[[], None]
    acknowledged: Callable[[], None]
    version: int = 0  # that the shard is to have


@dataclass
class Queued:
    """What another rank asked for: done in that order, when its payload is here and the variable is known."""

    number: int
    act: Callable[[], None]
    whole: bool = False


class LeastVersion(dict[int, float]):
    """How often each owner's shard was moved when it was read; `into` becomes the least of it."""

    def __init__(self, into: Buffer | None) -> None:
        super().__init__()
        self.into = into

    def __setitem__(self, owner: int, moves: float) -> None:
        super().__setitem__(owner, moves)
        if self.into is not None:
            self.into[:] = min(self.values())


class Shards(Centers):
    """This rank's shards, by the checksum of the variable's name, and its changes to those of others."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        self.mine: dict[int, Center] = {}
        self.inbox: dict[int, deque[Queued]] = defaultdict(deque)  # by source
        self.changes: dict[tuple[int, int], deque[Change]] = defaultdict(deque)  # by (variable, owner); the
        # first one was sent
        self.operations: Operations = {Fetch: self.fetch, Push: lambda request, worker: self.push(request)}
        self.arrivals: Arrivals = {
            Kind.FETCH: self.receive_fetch,
            Kind.PUSH: self.receive_change,
            Kind.STORE: self.receive_change,
            Kind.ACK: self.receive_acknowledgement,
        }

    def open(self, calls: BlockingCalls) -> None:
        """Answer how often shards were moved."""
        self.calls = calls
        calls.queries.answer("version", lambda number: self.mine[number].version)

    @property
    def handlers(self) -> Handlers:
        """Return what performs requests: the progress engine begins them, and the worker waits."""
        return dict.fromkeys(self.operations, self.calls.perform)

    @property
    def background(self) -> Background:
        """Return nothing: the progress engine starts requests, too."""
        return {}

    # --- variables ---------------------------------------------------------------------------------------

    def share(self, name: str, like: Buffer) -> Shared:
        """Make a variable of which every rank keeps a shard; rank 0's values are stored in all of them."""
        shared = self.make(name, like)
        self.calls.barrier(f"share {name}")
        if self.mailbox.rank == 0:
            self.store(shared, like, 0)
        self.calls.barrier(f"shared {name}")
        return shared

    def make(self, name: str, like: Buffer) -> Shared:
        """Make this rank's shard from its own values."""
        with self.mailbox.lock:
            number = crc32(name.encode())
            if number not in self.mine:
                low, high = self.edges(like.size)[self.mailbox.rank : self.mailbox.rank + 2]
                self.mine[number] = Center(like[low:high])
                self.calls.engine.serves = True
                for source in list(self.inbox):
                    self.drain(source)
            return Shared(name, like.size, like.dtype, number)

    def store(self, shared: Shared, values: Buffer, version: int) -> None:
        """Set every shard; done when all owners say so."""
        with self.mailbox.lock:
            operation = self.begin_store(shared, values, version)
        self.calls.until(f"storing {shared.name!r}", lambda: not operation.left)

    def version(self, shared: Shared) -> int:
        """Return the maximum over ranks: a rank without a shard reports 0."""
        moves: int = max(self.calls.inquire("version", shared.store))
        return moves

    def in_common(self, name: str, like: Buffer) -> Buffer:
        """Return a buffer of this worker's own: nothing is in common between hosts."""
        common: Buffer = buffers.copy_of(like)
        return common

    def close(self) -> None:
        """Give nothing back: shards are ordinary memory."""

    # --- cutting -----------------------------------------------------------------------------------------

    def edges(self, size: int) -> list[int]:
        """Return where each rank's shard begins, and the end."""
        return bounds(size, self.mailbox.size)

    def cut(self, shared: Shared, buf: Buffer) -> Iterator[tuple[int, Buffer]]:
        """Yield (owner, its part of buf), empty parts left out; this rank's own last, so that not all ask one
        first."""
        edges, size = self.edges(shared.size), self.mailbox.size
        for owner in ((self.mailbox.rank + hop) % size for hop in range(1, size + 1)):
            if edges[owner] < edges[owner + 1]:
                yield owner, buf[edges[owner] : edges[owner + 1]]

    # --- this worker's requests --------------------------------------------------------------------------

    def fetch(self, request: Fetch, worker: Worker) -> Operation:
        """Ask every owner for its shard; this rank's own is read at once."""
        versions = LeastVersion(request.version)
        parts = list(self.cut(request.shared, request.into))
        operation = Operation(len(parts))
        for owner, into in parts:
            if owner == self.mailbox.rank:
                versions[owner] = self.mine[request.shared.store].fetch(into)
                operation.finish_part()
                continue
            number = self.mailbox.number()
            receive = PostedReceive(owner, into, worker, operation, versions)
            self.mailbox.post((owner, Kind.VALUE, number), receive)
            self.mailbox.send(owner, Header(Kind.FETCH, number=request.shared.store, tag=number))
        return operation

    def push(self, request: Push) -> Operation:
        """Send a change to every owner; done once it is on its way, or has arrived where that is asked for."""
        first = request.shared[0]
        cuts = [[part for _, part in self.cut(first, values)] for values in request.values]
        owners = [owner for owner, _ in self.cut(first, np.empty(0))]
        operation = Operation(len(owners))
        for place, owner in enumerate(owners):
            values = [parts[place] for parts in cuts]
            if owner == self.mailbox.rank:
                self.move(request.rule, [shared.store for shared in request.shared], values, request.scalars)
                operation.finish_part()
                continue
            ends = (noop, operation.finish_part) if request.arrived else (operation.finish_part, noop)
            self.change(first.store, owner, Change(Kind.PUSH, packed(request, values), *ends))
        return operation

    def begin_store(self, shared: Shared, values: Buffer, version: int) -> Operation:
        """Send every owner what its shard is to be."""
        parts = list(self.cut(shared, values))
        operation = Operation(len(parts))
        for owner, part in parts:
            if owner == self.mailbox.rank:
                self.mine[shared.store].store(part, version)
                operation.finish_part()
            else:
                change = Change(Kind.STORE, part.copy(), noop, operation.finish_part, version)
                self.change(shared.store, owner, change)
        return operation

    def change(self, number: int, owner: int, change: Change) -> None:
        """Send a change after those to the same shard that are not acknowledged yet."""
        line = self.changes[number, owner]
        line.append(change)
        if len(line) == 1:
            self.send_change(number, owner)

    def send_change(self, number: int, owner: int) -> None:
        """Send the first change of a line, where it stays until it is acknowledged."""
        change = self.changes[number, owner][0]
        values = change.values
        header = Header(change.kind, values.dtype.num, values.size, number, note=change.version)
        self.mailbox.send(owner, header, values)
        change.sent()

    def receive_acknowledgement(self, source: int, header: Header, content: bytes | None) -> None:
        """Complete the change that was sent, and send the next one of its line."""
        pop(self.changes, (header.number, source)).acknowledged()
        if (header.number, source) in self.changes:
            self.send_change(header.number, source)

    # --- the requests of others --------------------------------------------------------------------------

    def move(self, rule: str, numbers: Sequence[int], values: Sequence[Buffer], scalars: Sequence[float]) -> None:
        """Move this rank's shards by a rule."""
        first, *others = (self.mine[number] for number in numbers)
        first.push(rule, others, values, scalars)

    def receive_fetch(self, source: int, header: Header, content: bytes | None) -> None:
        """Queue a read, which sends the shard as it then is."""

        def answer() -> None:
            shard = self.mine[header.number]
            values = np.empty(shard.size, shard.dtype)
            moves = shard.fetch(values)
            self.mailbox.send(
                source, Header(Kind.VALUE, values.dtype.num, values.size, tag=header.tag, note=moves), values
            )

        self.inbox[source].append(Queued(header.number, answer, whole=True))
        self.drain(source)

    def receive_change(self, source: int, header: Header, content: bytes | None) -> None:
        """Queue a change, which is acknowledged when it is done."""
        values: Buffer = np.empty(header.size, DTYPES[header.dtype])

        def change() -> None:
            if header.kind == Kind.PUSH:
                self.move(*unpacked(values))
            else:
                self.mine[header.number].store(values, int(header.note))
            self.mailbox.send(source, Header(Kind.ACK, number=header.number))

        queued = Queued(header.number, change)
        self.inbox[source].append(queued)

        def complete() -> None:
            queued.whole = True
            self.drain(source)

        self.mailbox.read(source, header, content, values, complete)

    def drain(self, source: int) -> None:
        """Run queued operations whose payload has arrived and whose variable exists."""
        inbox = self.inbox[source]
        while inbox and inbox[0].whole and inbox[0].number in self.mine:
            inbox.popleft().act()


HEAD = Struct("<QQQ")  # of what is pushed: how many bytes of text, of scalars, of each buffer


def packed(request: Push, values: Sequence[Buffer]) -> NDArray[np.uint8]:
    """Return a push as bytes: rule and variables, scalars to the last bit, values, each at a multiple of 8."""
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
    """Return (rule, numbers of the variables, values, scalars)."""
    texts, numbers, each = HEAD.unpack_from(content.data)
    scalars = HEAD.size + texts
    first = scalars + numbers
    rule, dtype, *variables = json.loads(content[HEAD.size : scalars].tobytes())
    stride = each + -each % 8
    values = [content[at : at + each].view(dtype) for at in range(first, content.size, stride or 1)]
    return rule, variables, values, content[scalars:first].view(np.float64).tolist()


def noop() -> None:
    """Do nothing, as a completion callback."""
