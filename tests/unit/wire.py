"""Memory between processes that are none: a test says what is held back, what comes first, and who is gone."""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, Protocol

import numpy as np
from tests.unit.clock import Clock

from loosestep.transports.processes.wire import Header, Wire, pack, unpack

Pair = tuple[int, int]  # (from, to)


class HasNow(Protocol):
    """A clock."""

    @property
    def now(self) -> float: ...


@dataclass
class Sent:
    """A message on its way. A long payload stays its sender's memory until it is fetched."""

    header: bytes
    payload: Any
    done: Callable[[], None] | None
    content: bytes | None  # of a short one, which travels along


class Net:
    """What lies between `size` ends. Messages of a pair keep their order; which pair is next is drawn."""

    def __init__(self, size: int, seed: int = 0, inline: int = 64, clock: HasNow | None = None) -> None:
        self.size, self.inline, self.random = size, inline, random.Random(seed)
        self.clock: Any = clock or Clock()
        self.lines: dict[Pair, deque[Sent]] = {pair: deque() for pair in product(range(size), repeat=2)}
        self.held: set[Pair] = set()  # nothing of these is delivered
        self.gone: set[int] = set()  # as stopped processes: they neither say nor hear anything
        self.finished: list[list[Callable[[], None]]] = [[] for _ in range(size)]  # told at the next poll
        self.ends = [MemoryWire(self, rank) for rank in range(size)]

    def open(self, source: int, to: int) -> bool:
        """Whether something of that pair may come now."""
        return not {source, to} & self.gone and (source, to) not in self.held

    def on_the_way(self, source: int, to: int) -> list[Header]:
        """What was sent, and has not come."""
        return [unpack(sent.header) for sent in self.lines[source, to]]


class MemoryWire(Wire):
    """One end."""

    local = True

    def __init__(self, net: Net, rank: int) -> None:
        self.net, self.rank, self.size = net, rank, net.size
        self.incoming: dict[int, deque[tuple[Sent, Any, Callable[[], None]]]] = defaultdict(deque)
        self.offered: tuple[int, Sent] | None = None
        self.signs = [net.clock.now] * net.size
        self.count = self.pauses = 0
        self.closed: bool | None = None  # whether orderly

    def send(self, to: int, header: Header, payload: Any, done: Callable[[], None] | None) -> None:
        short = payload is None or payload.nbytes <= self.net.inline
        content = (b"" if payload is None else payload.tobytes()) if short else None
        if self.rank not in self.net.gone:
            self.net.lines[self.rank, to].append(Sent(pack(header), payload, done, content))
        if short and done is not None:
            done()

    def receive(self, source: int, into: Any, done: Callable[[], None]) -> None:
        assert self.offered is not None, "there is no payload to receive"
        assert self.offered[0] == source
        self.incoming[source].append((self.offered[1], into, done))
        self.offered = None

    def poll(self) -> Iterator[tuple[int, Header, bytes | None]]:
        self.complete()
        sources = list(range(self.size))
        self.net.random.shuffle(sources)
        for source in sources:
            line = self.net.lines[source, self.rank]
            while line and self.net.open(source, self.rank) and self.net.random.random() < 0.7:
                sent = line.popleft()
                self.signs[source] = self.net.clock.now
                self.offered = (source, sent) if sent.content is None else None
                yield source, unpack(sent.header), sent.content
                assert self.offered is None, "receive must be called before the next is asked for"

    def complete(self) -> None:
        """Fill what payloads go to, and tell what is done."""
        finished, self.net.finished[self.rank] = self.net.finished[self.rank], []
        for done in finished:
            done()
        for source, waiting in self.incoming.items():
            while waiting and self.net.open(source, self.rank):
                sent, into, done = waiting.popleft()
                into.reshape(-1).view(np.uint8)[:] = np.ascontiguousarray(sent.payload).reshape(-1).view(np.uint8)
                self.count += 1
                if sent.done is not None:
                    self.net.finished[source].append(sent.done)
                done()

    def pause(self) -> None:
        self.pauses += 1

    def rest(self, seconds: float) -> None:
        self.net.clock.sleep(seconds)

    @property
    def parts(self) -> int:
        return self.count

    def last_heard(self, rank: int) -> float:
        return self.signs[rank]

    def close(self, *, orderly: bool) -> None:
        self.closed = orderly

    def end_job(self) -> None:
        raise AssertionError("a test's job is not to be ended")
