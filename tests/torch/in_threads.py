"""Workers of a torch loop in threads of one process: all but MPI is what a job of processes has."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from loosestep.transports import matching
from loosestep.transports.base import Session, Transport
from loosestep.transports.mpi.session import open_session
from loosestep.transports.mpi.wire import Header, Wire, pack, unpack

source, one_at_a_time = matching.source, threading.Lock()


def source_in_turn(code: Any) -> str:
    """What `inspect.getsource` gives; in Python 3.11 two threads must not parse at once."""
    with one_at_a_time:
        return source(code)


matching.source = source_in_turn


class QueueWire(Wire):
    """One end: what is sent to it lies in its queue."""

    local = True

    def __init__(self, queues: list[Any], rank: int) -> None:
        self.queues, self.rank, self.size = queues, rank, len(queues)

    def send(self, to: int, header: Header, payload: Any, done: Callable[[], None] | None) -> None:
        content = b"" if payload is None else payload.tobytes()
        self.queues[to].put((self.rank, pack(header), content))
        if done is not None:
            done()

    def receive(self, source: int, into: Any, done: Callable[[], None]) -> None:
        raise AssertionError("every payload comes with its header")

    def poll(self) -> Iterator[tuple[int, Header, bytes | None]]:
        while True:
            try:
                source, header, content = self.queues[self.rank].get_nowait()
            except Empty:
                return
            yield source, unpack(header), content

    @property
    def parts(self) -> int:
        return 0  # no payload comes in parts

    def last_heard(self, rank: int) -> float:
        return time.monotonic()

    def close(self, *, orderly: bool) -> None:
        pass

    def end_job(self) -> None:
        raise AssertionError("a test's job is not to be ended")


@dataclass(frozen=True, repr=False)
class InThread(Transport):
    """One worker of them. `wires` has a wire for every run that it opens."""

    wire: Any = field(compare=False)
    hosts: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        return int(self.wire.size)

    @property
    def rank(self) -> int:
        return int(self.wire.rank)

    def open(self, seed: int = 0) -> Session:
        return open_session(self.wire, self.hosts, 10.0, 60.0)


def transports(size: int, hosts: tuple[tuple[int, ...], ...] | None = None) -> list[InThread]:
    """One for each worker of a run; on one host unless others are said."""
    queues: list[Any] = [SimpleQueue() for _ in range(size)]
    return [InThread(QueueWire(queues, rank), hosts or (tuple(range(size)),)) for rank in range(size)]


def together(size: int, action: Callable[[Any], Any], *, errors: bool = False, **how: Any) -> list[Any]:
    """What `action(on)` returns on every worker, in rank order, or with `errors` what it raises."""
    found: list[Any] = [None] * size
    hook = sys.excepthook

    def run(rank: int, on: InThread) -> None:
        try:
            found[rank] = action(on)
        except BaseException as error:
            found[rank] = error

    threads = [
        threading.Thread(target=run, args=(rank, on), daemon=True)
        for rank, on in enumerate(transports(size, **how))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    sys.excepthook = hook
    assert not any(thread.is_alive() for thread in threads), found
    failed = [each for each in found if isinstance(each, BaseException)]
    if failed and not errors:
        raise failed[0]
    return found
