"""What the simulator's calendar moves on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from loosestep.requests import Request
    from loosestep.transports.base import Task


class Strand:
    """A stream of requests that runs by itself: a worker's own, or one that it started."""

    __slots__ = ("arrived", "beside", "done", "rank", "requests", "task", "then", "unmetered", "waiting")

    def __init__(self, task: Task, requests: Iterator[Request], *, beside: bool = False) -> None:
        self.task, self.requests, self.rank = task, requests, task.worker.rank
        self.beside = beside  # started by a worker whose clock is its own
        self.waiting: Request | None = None  # the request it is in
        self.arrived, self.unmetered = 0.0, False  # at the meeting of an AllReduce
        self.done: float | None = None
        self.then: Callable[[float], None] | None = None  # called when it is done
