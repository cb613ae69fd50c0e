"""A wrapper that counts messages, bytes and waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loosestep.lowering.costs import COSTS, KEYS, cost_of
from loosestep.lowering.requests import Script
from loosestep.requests import Compute, Exchange, Request
from loosestep.transports.base import Session, Transport
from loosestep.transports.serial import Serial
from loosestep.transports.wrapper import WrappedSession, Wrapper

if TYPE_CHECKING:
    from loosestep.requests.worker import Worker


class Meter:
    """What one worker has sent, and how long it has waited."""

    def __init__(self) -> None:
        self.waiting = 0.0
        self.requests: dict[str, list[int]] = {}  # by type: [requests, messages, bytes]

    @property
    def messages(self) -> int:
        """The number of messages sent."""
        return sum(tally[1] for tally in self.tallies())

    @property
    def bytes(self) -> int:
        """The number of bytes sent, without headers."""
        return sum(tally[2] for tally in self.tallies())

    def tallies(self) -> list[list[int]]:
        """Return the counts of each type of request; its worker, in another thread, may go on counting."""
        return list(self.requests.values())

    def watch(self, worker: Worker, requests: Iterator[Request], clock: Callable[[], float]) -> Iterator[Request]:
        """Yield the same requests; book the time from asking for a communication to its end as waiting."""
        rank, size, links = worker.rank, worker.size, worker.links
        computing = frozenset(Compute.__subclasses__())
        counts: dict[type[Request], Count] = {}
        for request in requests:
            kind = type(request)
            if worker.unmetered:
                yield request
                continue
            begin = clock()
            yield request
            spent = clock() - begin
            if kind in computing:
                worker.computing += spent
                continue
            worker.communicating += spent
            self.waiting += spent
            if kind not in counts:
                counts[kind] = Count(kind, self.requests.setdefault(kind.__name__, [0, 0, 0]))
            count = counts[kind]
            tally = count.tally
            tally[0] += 1
            if count.key_of is not None:
                key = count.key_of(request)
                if key != count.key:
                    count.key = key
                    count.nbytes, count.messages = cost_of(request, rank, size, links)
                nbytes, messages = count.nbytes, count.messages
            elif kind is Exchange:  # lists its own messages
                sends: Any = request.sends  # type: ignore[attr-defined]
                nbytes, messages = sum([buf.nbytes for _, buf in sends]), len(sends)
            elif kind is Script:
                nbytes, messages = request.sent or cost_of(request, rank, size, links)  # type: ignore[attr-defined]
            elif kind in COSTS:
                nbytes, messages = cost_of(request, rank, size, links)
            else:
                continue
            tally[1] += messages
            tally[2] += nbytes


class Count:
    """How many requests of one type there were, and what those cost that are like the last one."""

    __slots__ = ("key", "key_of", "messages", "nbytes", "tally")

    def __init__(self, kind: type[Request], tally: list[int]) -> None:
        self.tally, self.key_of = tally, KEYS.get(kind)
        self.key: object = self  # like none
        self.nbytes = self.messages = 0


@dataclass(frozen=True, repr=False)
class Metered(Wrapper):
    """Counts requests, messages, bytes and waiting of every worker: `meters[rank]` of its last run.

    `run` meters every transport by itself; wrap one to see the counts by type of request.
    """

    on: Transport = field(default_factory=Serial)
    meters: list[Meter] = field(default_factory=list, compare=False, repr=False)

    def open(self, seed: int = 0) -> MeteredSession:
        self.meters[:] = [Meter() for _ in range(self.size)]
        return MeteredSession(self.on.open(seed), self.meters)


class MeteredSession(WrappedSession):
    """Counts the requests of every worker."""

    def __init__(self, inner: Session, meters: Sequence[Meter]) -> None:
        super().__init__(inner)
        self.meters = list(meters)

    def rewrite(self, worker: Worker, requests: Iterator[Request]) -> Iterator[Request]:
        return self.meters[worker.rank].watch(worker, requests, self.clock(worker.rank))
