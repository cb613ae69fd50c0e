"""A stream of requests that stops where one must be waited for, and goes on when that is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from loosestep.requests import Request
    from loosestep.requests.worker import Worker


def refuse(request: Request) -> int:
    """Raise, for a stream that holds communications alone."""
    raise TypeError(f"{request} computes, which nothing does here")


@dataclass(eq=False, slots=True)
class Continuation:
    """One such stream: a worker's own, or one that runs beside it.

    beside: a worker started it, and goes on meanwhile by its own clock. turned: it has waited for the turn that
        what runs beside a computing worker gets (on a virtual clock).
    compute: performs the requests that compute; only a worker's own stream has any.
    """

    worker: Worker
    rank: int  # of the worker
    requests: Iterator[Any]
    compute: Callable[[Request], int] = refuse
    beside: bool = False
    turned: bool = False
    waiting: Request | None = None  # the request where it stopped
    done: float | None = None  # when it came to its end, by the transport's clock
    error: BaseException | None = None  # what it ended with, raised where it is waited for
    then: Callable[[float], None] | None = None  # called with `done` at its end
