"""A wrapper that makes a worker fail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loosestep.foundation import checks
from loosestep.foundation.errors import LoosestepError
from loosestep.requests import Request
from loosestep.transports.base import Session, Transport
from loosestep.transports.serial import Serial
from loosestep.transports.wrapper import WrappedSession, Wrapper

if TYPE_CHECKING:
    from loosestep.requests.worker import Worker


class InjectedFailure(LoosestepError):
    """The error that a `Failing` transport raises."""


@dataclass(frozen=True, repr=False)
class Failing(Wrapper):
    """Lets worker `rank` raise at its `at_request`-th request (1 is the first, computing included)."""

    on: Transport = field(default_factory=Serial)
    rank: int = 0
    at_request: int = 1

    @classmethod
    def example(cls) -> Failing:
        """Return an instance that fails later than any contract test ends."""
        return cls(at_request=10**9)

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.integer("at_request", self.at_request)
        checks.rank("rank", self.rank, self.on.size)

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
