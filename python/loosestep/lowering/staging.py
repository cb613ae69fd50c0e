"""Communication of buffers on a device, for transports that read and write main memory.

A request that names such buffers becomes the same request of mirrors of them, in pinned memory: copies to the
mirrors before it, copies back behind it. What treats elements alike is cut into chunks: at one time one is copied
here, one is with the others, and one on its way back. Sums keep their order: bits do not change.

A transport that takes addresses on devices (CUDA-aware MPI) would let such requests pass here.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

from loosestep.foundation.buffers import is_on_device
from loosestep.lowering.collectives import members
from loosestep.lowering.requests import Drain
from loosestep.requests import (
    AllGather,
    AllReduce,
    Broadcast,
    Communication,
    Elastic,
    Exchange,
    Fetch,
    Mix,
    Push,
    Start,
    Wait,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker

CHUNK = 4 << 20
"""Bytes of a collective for each worker in it that are copied as one."""


class Mirror(Protocol):
    """Main memory for values on a device, and copies between the two, concurrent with what the device computes.

    A buffer on a device makes it: `buffer.mirror()`.
    """

    array: Buffer

    def bring(self, source: Buffer) -> None:
        """Begin to copy the values to main memory, after all that the device was asked before."""

    def send(self, to: Buffer) -> None:
        """Begin to copy them back, before all that the device is asked later."""

    def done(self) -> bool:
        """Return whether the last copy is complete."""

    def wait_for_device(self) -> None:
        """Block until the device has done what it was asked before the last copy."""

    def wait(self) -> None:
        """Block until the last copy is complete: then `array` may be read, and written."""


@dataclass(eq=False, slots=True)
class StagedRequest:
    """A request of mirrors, and which (buffer, mirror) pairs are copied before it and after it."""

    request: Communication
    brought: Sequence[tuple[Buffer, Mirror]] = ()
    sent: Sequence[tuple[Buffer, Mirror]] = ()

    @property
    def mirrors(self) -> set[Mirror]:
        return {mirror for _, mirror in chain(self.brought, self.sent)}

    def bring(self) -> None:
        for buffer, mirror in self.brought:
            mirror.bring(buffer)

    def send(self) -> None:
        for buffer, mirror in self.sent:
            mirror.send(buffer)


class Staging:
    """Rewrites one worker's requests that name buffers on a device; others pass unchanged.

    What is started begins when its values are here, in the order in which it was started, and before any other
    communication, while the device and its host thread go on. Waiting for the device counts as computing, waiting
    for copies as communication, which `waited` is told of, in seconds of `clock`.
    """

    def __init__(self, worker: Worker, clock: Callable[[], float], waited: Callable[[float], None]) -> None:
        self.worker, self.clock, self.waited = worker, clock, waited
        self.free: defaultdict[tuple[int, Any], list[Mirror]] = defaultdict(list)
        self.begun: dict[Communication, list[StagedRequest]] = {}
        self.starting: deque[StagedRequest] = deque()
        self.cut: dict[type[Request], Callable[[Any], list[StagedRequest]]] = {
            **dict.fromkeys((AllReduce, Broadcast, Mix), self.in_chunks),
            AllGather: self.all_gather,
            Exchange: self.exchange,
            Elastic: self.elastic,
            Fetch: self.fetch,
            Push: self.push,
        }

    def rewrite(self, requests: Iterable[Request]) -> Iterator[Request]:
        """Yield the same requests, on main memory alone."""
        for request in requests:
            kind = type(request)
            yield from self.starts(all_of_them=kind is not Start and isinstance(request, Communication))
            if kind is Start:
                yield from self.start(request)
            elif kind in (Wait, Drain) and request.request in self.begun:  # type: ignore[attr-defined]
                yield from self.finish(request)
            elif touches(request):
                yield from self.carry(request)
            else:
                yield request

    def carry(self, request: Request) -> Iterator[Request]:
        for part in self.parts(request):
            self.wait(part)
            yield part.request
            self.complete(part)

    def parts(self, request: Request) -> list[StagedRequest]:
        """Return the requests of mirrors for one request, with their copies to main memory begun."""
        parts = self.cut[type(request)](request)
        for part in parts:
            part.bring()
        return parts

    def wait(self, part: StagedRequest) -> None:
        """Block until a request can be performed: its values are in main memory, and its mirrors are free."""
        times = [self.clock()]
        for _, mirror in part.brought:
            mirror.wait_for_device()
        times.append(self.clock())
        for mirror in part.mirrors:
            mirror.wait()
        if not self.worker.unmetered:
            self.worker.computing += times[1] - times[0]
            self.waited(self.clock() - times[1])

    def complete(self, part: StagedRequest) -> None:
        """Copy the results of a performed request back, and free its mirrors."""
        part.send()
        for mirror in part.mirrors:
            self.free[mirror.array.size, mirror.array.dtype].append(mirror)

    # --- what is started ---------------------------------------------------------------------------------

    def start(self, request: Any) -> Iterator[Request]:
        asked = request.request
        if touches(asked):
            self.begun[asked] = parts = self.parts(asked)
            self.starting.extend(parts)
        else:
            yield from self.starts(all_of_them=True)
            yield request

    def starts(self, *, all_of_them: bool) -> Iterator[Request]:
        """Begin what can begin without waiting, or everything."""
        while self.starting and (all_of_them or all(mirror.done() for mirror in self.starting[0].mirrors)):
            part = self.starting.popleft()
            self.wait(part)
            yield Start(part.request)

    def finish(self, request: Any) -> Iterator[Request]:
        """Perform `Wait` or `Drain` for every part."""
        for part in self.begun.pop(request.request):
            yield replace(request, request=part.request)
            self.complete(part)

    # --- requests of mirrors -----------------------------------------------------------------------------

    def in_chunks(self, request: AllReduce | Broadcast | Mix) -> list[StagedRequest]:
        """Cut a request whose elements are independent into chunks; in a group of one it has nothing to do."""
        count = len(members(request, self.worker.size))
        if count == 1:
            return [StagedRequest(replace(request, buf=self.worker.workspace("nobody", 0, request.buf.dtype)))]
        read = getattr(request, "root", self.worker.rank) == self.worker.rank
        written = not (read and isinstance(request, Broadcast))
        step = CHUNK // request.buf.itemsize * count
        chunks = [request.buf[low : low + step] for low in range(0, request.buf.size, step)]
        pairs = [[(chunk, self.mirror(chunk))] for chunk in chunks]
        return [
            StagedRequest(of_mirror(request, pair), pair if read else (), pair if written else ())
            for pair in pairs
        ]

    def elastic(self, request: Elastic) -> list[StagedRequest]:
        pair = [(request.buf, self.mirror(request.buf))]
        return [StagedRequest(of_mirror(request, pair), pair, pair)]

    def fetch(self, request: Fetch) -> list[StagedRequest]:
        mirror = self.mirror(request.into)
        return [StagedRequest(replace(request, into=mirror.array), sent=[(request.into, mirror)])]

    def push(self, request: Push) -> list[StagedRequest]:
        values, pairs = self.mirrored(request.values)
        return [StagedRequest(replace(request, values=tuple(values)), pairs)]

    def all_gather(self, request: AllGather) -> list[StagedRequest]:
        (piece,), brought = self.mirrored([request.piece])
        (out,), sent = self.mirrored([request.out])
        return [StagedRequest(replace(request, piece=piece, out=out), brought, sent)]

    def exchange(self, request: Exchange) -> list[StagedRequest]:
        ranks = [[rank for rank, _ in pairs] for pairs in (request.sends, request.recvs)]
        given, brought = self.mirrored([buffer for _, buffer in request.sends])
        come, sent = self.mirrored([buffer for _, buffer in request.recvs])
        sends, recvs = (list(zip(*pair, strict=True)) for pair in zip(ranks, (given, come), strict=True))
        return [StagedRequest(replace(request, sends=sends, recvs=recvs), brought, sent)]

    def mirrored(self, given: Iterable[Buffer]) -> tuple[list[Buffer], list[tuple[Buffer, Mirror]]]:
        """Return the buffers with those on a device replaced by their mirrors' memory, and the pairs."""
        found = {
            index: (buffer, self.mirror(buffer)) for index, buffer in enumerate(given) if is_on_device(buffer)
        }
        arrays = [found[index][1].array if index in found else buffer for index, buffer in enumerate(given)]
        return arrays, list(found.values())

    def mirror(self, buffer: Buffer) -> Mirror:
        """Return a free mirror of that size and dtype, or a new one."""
        free = self.free[buffer.size, buffer.dtype]
        return free.pop() if free else buffer.mirror()  # type: ignore[attr-defined]


def of_mirror(request: Any, pairs: Sequence[tuple[Buffer, Mirror]]) -> Any:
    """Return the same request for the mirror of its buffer."""
    return replace(request, buf=pairs[0][1].array)


def touches(request: Request) -> bool:
    """Return whether a request names a buffer on a device."""
    return any(map(is_on_device, named(request)))


def named(request: Request) -> Iterator[Buffer]:
    """Yield every buffer that a communication names."""
    for field in ("buf", "into", "piece", "out"):
        if (buffer := getattr(request, field, None)) is not None:
            yield buffer
    yield from getattr(request, "values", ())
    for _, buffer in chain(getattr(request, "sends", ()), getattr(request, "recvs", ())):
        yield buffer
