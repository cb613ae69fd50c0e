"""Rewrites requests into those that a model and a transport perform natively; native ones pass unchanged."""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, cast
from zlib import crc32

from loosestep import ops
from loosestep.lowering import collectives, hierarchical
from loosestep.lowering.requests import Drain, Drained, IntraHost, Script
from loosestep.requests import Elastic, Fetch, Gradient, Local, Mix, Push, Ready, Start, Update, Wait
from loosestep.requests.base import address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from loosestep.requests import Buffer, Communication, Exchange, Request
    from loosestep.requests.worker import Worker


class Lowering:
    """Rewrites the requests of one worker.

    native: request types that model and transport perform themselves. unpriced: those that the transport also
    performs, at once, for a worker that is unmetered. grouped: native collectives take groups. hosts: on which
    of them workers live; collectives of all workers are then hierarchical.
    """

    def __init__(
        self,
        native: frozenset[type[Request]],
        worker: Worker,
        unpriced: frozenset[type[Request]] = frozenset(),
        *,
        grouped: bool = True,
        hosts: hierarchical.Hosts = (),
    ) -> None:
        self.unpriced, self.grouped = unpriced, grouped
        self.native, self.worker = native - {Start, Wait, Drain}, worker  # what these refer to may need lowering
        self.timed = Drain in native  # a synchronization point may come before what was started is over
        self.tags: Counter[object] = Counter()  # of one group: how many collectives were begun
        self.numbers = count()  # of hierarchical collectives
        self.host_map = hierarchical.HostMap(worker, hosts) if 1 < len(hosts) < worker.size else None
        self.started: dict[Communication, Script | tuple[Exchange, list[Buffer]]] = {}
        self.expansions: dict[type[Request], Callable[..., Iterator[Request]]] = {
            Local: self.local,
            Gradient: self.gradient,
            Elastic: self.elastic,
            **dict.fromkeys(collectives.FORMS, self.collective),
            IntraHost: self.intra_host,
            Mix: self.mix,
            Start: self.start,
            Wait: self.wait,
            Drain: self.drain,
        }

    def lower(self, requests: Iterable[Request]) -> Iterator[Request]:
        """Yield native requests that do the same work."""
        native, grouped, expansions = self.native, self.grouped, self.expansions
        for request in requests:
            kind = type(request)
            if kind in native and (grouped or getattr(request, "group", None) is None):
                yield request
            elif kind in expansions:
                yield from expansions[kind](request)
            else:
                raise TypeError(f"worker {self.worker.rank} asked for {request!r}, which is not a request")

    def performs(self, request: Request) -> bool:
        """Return whether the transport performs this request itself."""
        return type(request) in self.native and (self.grouped or getattr(request, "group", None) is None)

    def tag(self, request: Request) -> int:
        """Return a tag that tells concurrent collectives apart; all members count them in the same order."""
        group = getattr(request, "group", None)
        self.tags[group] += 1
        kind = f"{type(request).__name__} {getattr(request, 'op', '')} {group}"  # others than these never match
        return crc32(kind.encode()) << 32 | self.tags[group]

    def local(self, request: Local) -> Iterator[Request]:
        step = list(self.lower((Gradient(), Update(request.proximal, local=True))))
        for _ in range(request.steps):
            yield from step

    def gradient(self, request: Gradient) -> Iterator[Request]:
        for bucket in self.worker.buckets(self.worker.grad.nbytes):
            yield Ready(bucket)

    def elastic(self, request: Elastic) -> Iterator[Request]:
        place = address(request.buf)
        seen = self.worker.scratch(("center", place), request.buf)
        move = self.worker.scratch(("move", place), request.buf)
        yield Fetch(request.shared, into=seen)
        ops.subtract(request.buf, seen, move)
        ops.scale(move, request.rate)
        ops.axpy(request.buf, move, -1.0)
        yield Push("axpy", (request.shared,), (move,), (1.0,))

    def collective(self, request: Communication) -> Iterator[Request]:
        if self.worker.unmetered and type(request) in self.unpriced:
            return iter((request,))
        if self.is_hierarchical(request):
            return iter((self.hierarchical_script(request),))
        return collectives.FORMS[type(request)](request, self.worker, self.tag(request))

    def is_hierarchical(self, request: Request) -> bool:
        """Return whether hosts meet in it; a group, though it may span hosts, is folded in its own order."""
        return (
            self.host_map is not None
            and type(request) in hierarchical.FORMS
            and getattr(request, "group", None) is None
        )

    def hierarchical_script(self, request: Communication) -> Script:
        """Return the collective as a script that runs beside the worker's own requests."""
        assert self.host_map is not None
        ticket = hierarchical.Ticket(next(self.numbers), self.tag(request))
        lowered = self.lower(hierarchical.FORMS[type(request)](request, self.host_map, ticket))
        return Script(request, cast("Iterator[Communication]", lowered), hierarchical.cost(request, self.host_map))

    def intra_host(self, request: IntraHost) -> Iterator[Request]:
        for inner in request.requests:
            yield from collectives.FORMS[type(inner)](inner, self.worker, request.tag)

    def mix(self, request: Mix) -> Iterator[Request]:
        exchange, parts = collectives.mix_exchange(request, self.worker, self.tag(request))
        yield exchange
        collectives.mix_finish(request, self.worker, parts)

    def start(self, request: Start) -> Iterator[Request]:
        asked = request.request
        if self.performs(asked):
            yield request
        elif isinstance(asked, Mix):  # only its exchange runs beside; the buffer changes at Wait
            pair = collectives.mix_exchange(asked, self.worker, self.tag(asked))
            self.started[asked] = pair
            yield Start(pair[0])
        else:
            self.started[asked] = script = self.script(asked)
            yield Start(script)

    def script(self, asked: Communication) -> Script:
        if self.is_hierarchical(asked):
            return self.hierarchical_script(asked)
        expand = self.expansions.get(type(asked))
        lowered = expand(asked) if expand else self.lower((asked,))  # which refuses it
        return Script(asked, cast("Iterator[Communication]", lowered))

    def wait(self, request: Wait) -> Iterator[Request]:
        asked = request.request
        if type(asked) is Drained:
            yield from (request,) if self.timed else ()
            return
        if self.performs(asked):
            yield request
            return
        begun = self.started.pop(asked, None)
        if begun is None:
            raise RuntimeError(f"worker {self.worker.rank} waits for {asked}, which it did not start")
        if isinstance(begun, Script):
            yield Wait(begun)
        else:
            yield Wait(begun[0])
            collectives.mix_finish(cast("Mix", asked), self.worker, begun[1])

    def drain(self, request: Drain) -> Iterator[Request]:
        for begun in self.wait(Wait(request.request)):
            yield Drain(cast("Wait", begun).request, request.drained) if self.timed else begun
