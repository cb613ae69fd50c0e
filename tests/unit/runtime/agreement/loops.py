"""Loops of a user's whose workers agree: in threads over memory, or one whose others are whoever a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from tests.unit import in_threads
from tests.unit.sessions import Fake, FakeSession

import loosestep as ls
from loosestep.runtime import user_loop
from loosestep.runtime.agreement.meeting import Agreement
from loosestep.runtime.agreement.stopping import Stopping
from loosestep.runtime.agreement.together import Together
from loosestep.runtime.numpy_model import Feed, NumpyModel
from loosestep.transports.base import Transport


class EndlessFeed(Feed):
    """Batches until the loop is left."""

    closed = False

    def __init__(self) -> None:
        super().__init__(lambda rank, size: iter([np.ones(1)] * 1000), 0, 1)

    def ended(self) -> bool:
        return self.closed or super().ended()


class CountingModel(NumpyModel):
    """Counts the updates of an optimizer that is the user's."""

    @property
    def updates(self) -> int:
        return self.worker.updates

    @updates.setter
    def updates(self, count: int) -> None:
        self.worker.updates = count


class Workers(Together):
    """One worker's end of the calls of all; its gradient is 1."""

    def __init__(self, on: Transport, strategy: ls.Strategy) -> None:
        joined = user_loop.Connection(on, np.zeros(2))
        self.feed = EndlessFeed()
        model = CountingModel(joined.worker, lambda x, batch: np.ones_like(x), self.feed, ls.SGD(1.0))
        joined.compute_with(model)
        self.loop = user_loop.Loop(strategy, joined, model)
        self.endpoint, self.worker, self.rank = joined.endpoint, joined.worker, joined.worker.rank
        self.agreement, self.stop_at = Agreement(self.loop), Stopping(self.loop)

    def steps(self, count: int) -> None:
        """Make so many steps."""
        for _ in range(count):
            self.loop.to_update()
            self.loop.perform()
            self.loop.finish()

    def leave(self, error: BaseException | None = None) -> None:
        """End this worker's run."""
        self.feed.closed = True
        self.loop.leave(error)
        self.stop_at.close()


@contextmanager
def begun(on: Transport, strategy: ls.Strategy | None = None) -> Iterator[Workers]:
    """A worker of a run that ends with the block, at once where the block raises."""
    worker = Workers(on, strategy or ls.LocalSGD(4))
    try:
        yield worker
    except BaseException as error:
        worker.leave(error)
        raise
    worker.leave()


def all_of(
    size: int, action: Callable[[Workers], Any], strategy: ls.Strategy | None = None, *, errors: bool = False
) -> list[Any]:
    """What the action returns on each of so many workers in threads, or with `errors` what it raises."""

    def run(on: Any) -> Any:
        with begun(on, strategy) as worker:
            return action(worker)

    return in_threads.together(size, run, errors=errors)


def tried(action: Callable[[], Any]) -> Any:
    """What the action returns, or the exception that it raises; the run goes on."""
    try:
        return action()
    except Exception as error:
        return error


def alone(session: FakeSession, strategy: ls.Strategy | None = None) -> Workers:
    """One worker of a session whose others are whoever the session says."""
    return Workers(Fake(session), strategy or ls.LocalSGD(4))
