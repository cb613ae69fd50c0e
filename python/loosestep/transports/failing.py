"""Makes a worker fail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loosestep.errors import LoosestepError, below, of_kind, whole
from loosestep.requests import Request
from loosestep.transport import Session, Transport
from loosestep.transports.serial import Serial
from loosestep.wrapping import WrappedSession

if TYPE_CHECKING:
    from loosestep.worker import Worker


class InjectedFailure(LoosestepError):
    """What a `Failing` transport raises."""


@dataclass(frozen=True, repr=False)
class Failing(Transport):
    """Worker `rank` raises when it asks for its `at_request`-th request (1 is the first, computing included)."""

    on: Transport = field(default_factory=Serial)
    rank: int = 0
    at_request: int = 1

    @classmethod
    def example(cls) -> Failing:
        """Late enough that a contract test ends before."""
        return cls(at_request=10**9)

    def __post_init__(self) -> None:
        of_kind("on", self.on, Transport)
        whole("at_request", self.at_request)
        below("rank", self.rank, self.on.size)

    @property
    def size(self) -> int:
        return self.on.size

    @property
    def virtual(self) -> bool:  # type: ignore[override]
        return self.on.virtual

    def open(self, seed: int = 0) -> FailingSession:
        return FailingSession(self.on.open(seed), self)


class FailingSession(WrappedSession):
    """Counts one worker's requests and raises at one of them."""

    def __init__(self, inner: Session, config: Failing) -> None:
        super().__init__(inner)
        self.config = config

    def rewrite(self, worker: Worker, requests: Iterator[Request]) -> Iterator[Request]:
        for number, request in enumerate(requests, 1):
            if worker.rank == self.config.rank and number == self.config.at_request:
                raise InjectedFailure(f"as asked, at request {number}, {request}")
            yield request
