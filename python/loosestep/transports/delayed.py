"""A wrapper that makes communication slower."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from loosestep.foundation import checks
from loosestep.lowering.requests import RollCall
from loosestep.requests import Communication, Compute, Request, Sleep, Start, Wait
from loosestep.transports.base import Session, Transport
from loosestep.transports.serial import Serial
from loosestep.transports.wrapper import WrappedSession, Wrapper

if TYPE_CHECKING:
    from typing import Literal

    from loosestep.requests.worker import Worker


FREE = (Compute, RollCall, Sleep)
"""Requests that are not delayed: they need no message of another worker before this one goes on."""


@dataclass(frozen=True, repr=False)
class Delayed(Wrapper):
    """Begins every communication `seconds` late, in the time of what it wraps.

    One that is started does not hold up its worker: it is over `seconds` after its start at the earliest.

    pattern: 'constant', or 'random': uniform in [0, 2 seconds), by seed and rank.
    ranks: the workers that are delayed (None: all).
    """

    on: Transport = field(default_factory=Serial)
    seconds: float = 0.001
    pattern: Literal["constant", "random"] = "constant"
    ranks: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for rank in self.ranks or ():
            checks.rank("ranks", rank, self.on.size)
        checks.positive("seconds", self.seconds, zero=True)
        checks.one_of("pattern", self.pattern, ("constant", "random"))

    def open(self, seed: int = 0) -> DelayedSession:
        return DelayedSession(self.on.open(seed), self, seed)


class DelayedSession(WrappedSession):
    """Puts a `Sleep` before every communication; before the `Wait` of a started one, for the time left."""

    def __init__(self, inner: Session, config: Delayed, seed: int) -> None:
        super().__init__(inner)
        self.config, self.seed = config, seed

    def rewrite(self, worker: Worker, requests: Iterator[Request]) -> Iterator[Request]:
        config = self.config
        if config.ranks is not None and worker.rank not in config.ranks:
            yield from requests
            return
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, 0xDE1A, worker.rank])))
        clock, due = self.clock(worker.rank), dict[Communication, float]()
        for request in requests:
            if isinstance(request, Wait):
                yield Sleep(max(0.0, due.pop(request.request, 0.0) - clock()))
            elif not (isinstance(request, FREE) or worker.unmetered):
                seconds = config.seconds * (2 * rng.random() if config.pattern == "random" else 1.0)
                if isinstance(request, Start):
                    due[request.request] = clock() + seconds
                else:
                    yield Sleep(seconds)
            yield request
