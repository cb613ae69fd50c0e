"""A wrapper that counts messages, bytes and waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loosestep.lowering.costs import COSTS, KEYS, Cost
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
        return sum(tally[1] for tally in self.requests.values())

    @property
    def bytes(self) -> int:
        """The number of bytes sent, without headers."""
        return sum(tally[2] for tally in self.requests.values())

    def watch(self, worker: Worker, requests: Iterator[Request], clock: Callable[[], float]) -> Iterator[Request]:
        """Yield the same requests; book the time from asking for a communication to its end as waiting."""
        rank, size = worker.rank, worker.size
        tallies: dict[type[Request], tuple[list[int], Cost | None, Callable[[Request], object] | None]] = {}
        last: dict[type[Request], tuple[object, tuple[int, int]]] = {}  # (key, cost) by type
        computing = frozenset(Compute.__subclasses__())
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
            if kind not in tallies:
                tallies[kind] = self.tally(kind), COSTS.get(kind), KEYS.get(kind)
            tally, cost, key_of = tallies[kind]
            tally[0] += 1
            asked: Any = request
            if kind is Exchange:  # lists its own messages
                nbytes, messages = sum([buf.nbytes for _, buf in asked.sends]), len(asked.sends)
            elif kind is Script and asked.sent is not None:
                nbytes, messages = asked.sent
            elif cost is None:
                continue
            elif key_of is None:
                nbytes, messages = cost(request, rank, size)
            else:
                key = key_of(request)
                if kind not in last or last[kind][0] != key:
                    last[kind] = key, cost(request, rank, size)
                nbytes, messages = last[kind][1]
            tally[1] += messages
            tally[2] += nbytes

    def tally(self, kind: type[Request]) -> list[int]:
        """Return where requests of a type are counted."""
        return self.requests.setdefault(kind.__name__, [0, 0, 0])


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
