"""Wires within one process: sessions of several workers without MPI, each of which can be stopped."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from loosestep.transports.processes.mailbox import Mailbox
from loosestep.transports.processes.multi_host import Messages
from loosestep.transports.processes.session import ProcessSession
from loosestep.transports.processes.shards import Shards
from loosestep.transports.processes.wire import FORMAT, Header, Wire, pack, unpack


class Line(Wire):
    """One end: what is sent lies in the receiver's box at once."""

    local = True

    def __init__(self, rank: int, boxes: Sequence[deque[tuple[int, bytes]]]) -> None:
        self.rank, self.size, self.boxes = rank, len(boxes), boxes
        self.signs = [time.monotonic()] * self.size
        self.stopped = False  # as a process that SIGSTOP has stopped: it hears nothing and says nothing
        self.closed: bool | None = None  # whether orderly

    def send(self, to: int, header: Header, payload: Any, done: Callable[[], None] | None) -> None:
        if not self.stopped:
            content = b"" if payload is None else np.ascontiguousarray(payload).tobytes()
            self.boxes[to].append((self.rank, pack(header) + content))
        if done is not None:
            done()

    def receive(self, source: int, into: Any, done: Callable[[], None]) -> None:
        raise AssertionError("payloads come along")

    def poll(self) -> Iterator[tuple[int, Header, bytes | None]]:
        while self.boxes[self.rank] and not self.stopped:
            source, content = self.boxes[self.rank].popleft()
            self.signs[source] = time.monotonic()
            yield source, unpack(content), content[FORMAT.size :]

    def rest(self, seconds: float) -> None:
        time.sleep(seconds)

    @property
    def parts(self) -> int:
        return 0

    def last_heard(self, rank: int) -> float:
        return self.signs[rank]

    def close(self, *, orderly: bool) -> None:
        self.closed = orderly

    def end_job(self) -> None:
        raise AssertionError("a test's job is not to be ended")


def together(actions: Sequence[Callable[[], Any]], seconds: float = 60) -> list[Any]:
    """What each returns or raises, all at once in threads."""
    came: list[Any] = [None] * len(actions)

    def act(place: int) -> None:
        try:
            came[place] = actions[place]()
        except BaseException as error:
            came[place] = error

    threads = [threading.Thread(target=act, args=(place,), daemon=True) for place in range(len(actions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
        assert not thread.is_alive(), f"{thread} still waits after {seconds} s"
    return came


@contextmanager
def sessions(
    size: int, heartbeat_timeout: float = 60, deadline: float = 60
) -> Iterator[tuple[list[ProcessSession], list[Line]]]:
    """So many workers' sessions, joined."""
    boxes: list[deque[tuple[int, bytes]]] = [deque() for _ in range(size)]
    lines = [Line(rank, boxes) for rank in range(size)]
    hosts = tuple((rank,) for rank in range(size))

    def make(line: Line) -> ProcessSession:
        mailbox = Mailbox(line)
        return ProcessSession(mailbox, Messages(), Shards(mailbox), None, hosts, heartbeat_timeout, deadline)

    made = together([lambda line=line: make(line) for line in lines])
    assert all(isinstance(each, ProcessSession) for each in made), made
    try:
        yield made, lines
    finally:
        for session in made:
            session.engine.closing.set()
        for session in reversed(made):
            session.engine.thread.join(5)
        for session in made:
            session.hook.remove()
