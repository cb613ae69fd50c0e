"""Messages between the processes of one host, in memory that they map: exchanges, and sums over neighbours."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING
from zlib import crc32

from loosestep import _core
from loosestep.foundation.errors import Mismatch
from loosestep.requests import Exchange, Mix
from loosestep.transports.processes.components import Component
from loosestep.transports.processes.mailbox import Operation
from loosestep.transports.processes.mapping import map_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from loosestep.lowering.hierarchical import Hosts
    from loosestep.requests import Request
    from loosestep.requests.worker import Worker
    from loosestep.transports.processes.components import Background, Handlers
    from loosestep.transports.processes.liveness import Watch
    from loosestep.transports.processes.mailbox import Mailbox, Operations
    from loosestep.transports.processes.progress import BlockingCalls

SLICE = 1e-3  # seconds in the core between two looks at other messages and other workers
MIX = crc32(b"Mix") << 32  # the n-th Mix of every worker has the tag n above this one


class HostMessages(Component):
    """Exchanges between ranks of one host by the core; messages to other ranks go through the mailbox.

    Until the memory is mapped, which all ranks do at one time, everything goes through the mailbox. Where each
    rank is on a host of its own, there is none and this does nothing.
    """

    def __init__(self, mailbox: Mailbox, hosts: Hosts) -> None:
        self.mailbox, self.rank = mailbox, mailbox.rank
        self.group = next(host for host in hosts if mailbox.rank in host)
        self.shared = len(hosts) < mailbox.size  # some host has several ranks
        self.whole = len(hosts) == 1  # no rank is elsewhere
        self.memory: _core.HostMessages | None = None
        self.begun: dict[int, Operation] = {}
        self.mixes = 0
        self.operations: Operations = {Exchange: self.begin} if self.shared else {}

    def open(self, calls: BlockingCalls) -> None:
        """Map the memory; every rank of the run calls it."""
        self.calls = calls
        if not self.shared:
            return

        def opened(path: str | int, new: bool) -> _core.HostMessages:
            return _core.HostMessages(path, list(self.group), self.rank, new)

        size = _core.HostMessages.needed(len(self.group))
        self.memory = map_memory(calls, self.group, "messages", size, opened)

    @property
    def handlers(self) -> Handlers:
        """Return what performs exchanges, and sums where all workers share this host."""
        if not self.shared:
            return {}
        return {Exchange: self.perform, Mix: self.mix} if self.whole else {Exchange: self.perform}

    @property
    def background(self) -> Background:
        """Return what starts sums; the progress engine starts exchanges."""
        return {Mix: self.start_mix} if self.shared and self.whole else {}

    # --- exchanges ---------------------------------------------------------------------------------------

    def is_near(self, request: Exchange) -> bool:
        """Return whether an exchange is with ranks of this host alone, so that the core can do all of it."""
        if self.whole or self.memory is None:
            return self.memory is not None
        group = self.group
        return all(rank in group for rank, _ in (*request.sends, *request.recvs))

    def perform(self, request: Exchange) -> None:
        """Carry out an exchange: one call of the core, unless another worker is late."""
        if not self.is_near(request):
            self.calls.perform(request)
            return
        calls, memory = self.calls, self.memory
        assert memory is not None
        calls.waits += 1
        calls.waiting = request
        try:
            number = memory.exchange(
                request.sends, request.recvs, request.tag, request.note, request.notes, calls.worker.round, SLICE
            )
            if number:
                self.until_done(number, request)
        except _core.Mismatch as error:
            raise Mismatch(str(error)) from error
        finally:
            calls.waiting = ""

    def begin(self, request: Exchange, worker: Worker) -> Operation:
        """Begin an exchange for the progress engine: with ranks of this host here, with others by messages."""
        memory, group = self.memory, self.group
        if memory is None:
            return self.mailbox.exchange(request, worker)
        operation = Operation(0)
        if self.is_near(request):
            self.begin_near(request, worker, operation)
            return operation
        near, far = (
            Exchange(
                [pair for pair in request.sends if (pair[0] in group) is here],
                [pair for pair in request.recvs if (pair[0] in group) is here],
                request.note,
                request.notes,
                request.tag,
            )
            for here in (True, False)
        )
        beyond = self.mailbox.exchange(far, worker)
        operation.left = bool(beyond.left)
        beyond.then = operation.finish_part
        self.begin_near(near, worker, operation)
        return operation

    def begin_near(self, request: Exchange, worker: Worker, operation: Operation) -> None:
        """Begin what is with ranks of this host, as one more part of an operation."""
        assert self.memory is not None
        try:
            number = self.memory.begin(
                request.sends, request.recvs, request.tag, request.note, request.notes, worker.round
            )
        except _core.Mismatch as error:
            raise Mismatch(str(error)) from error
        if number:
            operation.left += 1
            self.begun[number] = operation

    def advance(self) -> bool:
        """Move everything on without waiting, and return whether anything came."""
        if self.memory is None:
            return False
        try:
            ended = self.memory.advance()
        except _core.Mismatch as error:
            raise Mismatch(str(error)) from error
        for number in ended or ():
            self.begun.pop(number).finish_part()
        return ended is not None

    def rest(self, seconds: float) -> None:
        """Sleep for so long at most, where news are likeliest to come first."""
        if self.whole and self.memory is not None:
            self.memory.rest(seconds)
        else:
            self.mailbox.wire.rest(seconds)

    def until_done(self, number: int, what: Request) -> None:
        """Wait for what the core has begun; serve other messages, and look after the other workers."""
        calls, memory = self.calls, self.memory
        assert memory is not None
        began = time.monotonic()
        watch: Watch | None = None
        while not memory.wait(number, SLICE):
            calls.engine.progress()
            calls.check()
            watch = watch or calls.detector.watch(calls.place or what, began)
            watch.look()

    # --- sums over neighbours ----------------------------------------------------------------------------

    def mix(self, request: Mix) -> None:
        """Replace a buffer by its weighted sum with those of neighbours."""
        self.start_mix(request)(request)

    def start_mix(self, request: Mix) -> Callable[[Request], None]:
        """Begin to send a buffer to its readers; what waits for it writes the sum."""
        assert self.memory is not None
        self.mixes += 1
        weights, round_ = request.weights, self.calls.worker.round
        try:
            number = self.memory.begin_mix(request.buf, weights.row, weights.readers, MIX + self.mixes, round_)
        except _core.Mismatch as error:
            raise Mismatch(str(error)) from error
        return partial(self.finish_mix, number)

    def finish_mix(self, number: int, what: Request) -> None:
        """Write the sum when all of it is here."""
        calls = self.calls
        calls.waits += 1
        calls.waiting = what
        try:
            self.until_done(number, what)
        except _core.Mismatch as error:
            raise Mismatch(str(error)) from error
        finally:
            calls.waiting = ""

    # --- what is known -----------------------------------------------------------------------------------

    @property
    def counts(self) -> tuple[int, int, int]:
        """Return how many messages were sent, how many have come, and how many parts of long ones."""
        memory = self.memory
        return (memory.sent, memory.received, memory.moved) if memory is not None else (0, 0, 0)

    def close(self) -> None:
        """Give the memory back."""
        if self.memory is not None:
            self.memory.close()
