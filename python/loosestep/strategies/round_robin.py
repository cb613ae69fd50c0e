"""Workers that act one after the other in a round."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loosestep.requests import Exchange

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loosestep.requests import Buffer, Request
    from loosestep.requests.worker import Worker


def my_turn(worker: Worker, held: Buffer) -> Iterator[Request]:
    """Receive what the worker before this one has sent; worker 0 begins."""
    if worker.rank:
        yield Exchange(recvs=[(worker.rank - 1, held)])


def hand_on(worker: Worker, held: Buffer) -> Iterator[Request]:
    """Send the buffer to the next worker, the last one to worker 0, which receives it."""
    if worker.size == 1:
        return
    yield Exchange(sends=[((worker.rank + 1) % worker.size, held)])
    if not worker.rank:
        yield Exchange(recvs=[(worker.size - 1, held)])
