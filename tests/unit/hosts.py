"""Workers of one host within one process: the memory that they would map, and calls that wait for nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.unit.values import worker

from loosestep.requests import Request


class HostCalls:
    """What a worker of a host asks the others; the others act when it waits for them."""

    def __init__(self, rank: int, size: int, known: dict[str, Any]) -> None:
        self.rank, self.worker, self.known = rank, worker(rank, size), known
        self.meanwhile: Callable[[], None] = lambda: None
        self.log: list[str] = []
        self.waits, self.waiting = 0, ""

    def all_gather_object(self, name: str, mine: Callable[[], Any]) -> Callable[[], list[Any]]:
        """The first one's word for all of them: it is what they ask for."""
        if self.rank == 0:
            self.known[name] = mine()
        return lambda: [self.known[name]] * self.worker.size

    def barrier(self, name: str) -> None:
        self.log.append(name)
        self.meanwhile()

    def retry(self, request: Request, attempt: Callable[[], Any], said: str) -> None:
        """Until it is done; the others go on meanwhile."""
        assert self.waiting is request
        for _ in range(1000):
            if said != "waiting":
                assert said == "done"
                return
            self.meanwhile()
            said = attempt()
        raise AssertionError(f"{request} is never done")


def on_one_host(size: int, make: Callable[[HostCalls], Any]) -> list[Any]:
    """What each worker makes; those after the first when the first waits for them to have mapped it."""
    known: dict[str, Any] = {}
    calls = [HostCalls(rank, size, known) for rank in range(size)]
    made: list[Any] = [None] * size

    def others() -> None:
        for rank in range(1, size):
            made[rank] = make(calls[rank])

    calls[0].meanwhile = others
    made[0] = make(calls[0])
    calls[0].meanwhile = lambda: None
    return made
