"""Counts what passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loosestep.collectives import traffic
from loosestep.requests import Compute, Request
from loosestep.transport import Session, Transport
from loosestep.transports.serial import Serial
from loosestep.wrapping import WrappedSession

if TYPE_CHECKING:
    from loosestep.worker import Worker


class Meter:
    """What one worker sent and how long it waited."""

    def __init__(self) -> None:
        self.bytes = self.messages = 0
        self.waiting = 0.0
        self.requests: dict[str, list[int]] = {}  # by type: [requests, messages, bytes]

    def watch(self, worker: Worker, requests: Iterator[Request], now: Callable[[int], float]) -> Iterator[Request]:
        """The same requests; time between asking for a communication and its end is waiting."""
        rank = worker.rank
        for request in requests:
            if isinstance(request, Compute) or worker.offstage:
                yield request
                continue
            begin = now(rank)
            yield request
            self.waiting += now(rank) - begin
            self.count(request, worker)

    def count(self, request: Request, worker: Worker) -> None:
        """Note one request that was performed."""
        nbytes, messages = traffic(request, worker.rank, worker.size)
        self.bytes += nbytes
        self.messages += messages
        tally = self.requests.setdefault(type(request).__name__, [0, 0, 0])
        for place, more in enumerate((1, messages, nbytes)):
            tally[place] += more


@dataclass(frozen=True, repr=False)
class Metered(Transport):
    """Counts requests, messages, bytes and waiting of every worker: `meters[rank]` of its last run.

    `run` meters every transport by itself; wrap one to see the counts by type of request.
    """

    on: Transport = field(default_factory=Serial)
    meters: list[Meter] = field(default_factory=list, compare=False, repr=False)

    @property
    def size(self) -> int:
        return self.on.size

    @property
    def virtual(self) -> bool:  # type: ignore[override]
        return self.on.virtual

    def open(self, seed: int = 0) -> MeteredSession:
        self.meters[:] = [Meter() for _ in range(self.size)]
        return MeteredSession(self.on.open(seed), self.meters)


class MeteredSession(WrappedSession):
    """Watches the requests of every worker."""

    def __init__(self, inner: Session, meters: Sequence[Meter]) -> None:
        super().__init__(inner)
        self.meters = list(meters)

    def rewrite(self, worker: Worker, requests: Iterator[Request]) -> Iterator[Request]:
        return self.meters[worker.rank].watch(worker, requests, self.now)
