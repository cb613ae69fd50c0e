"""This process's connections with all others: what is sent arrives in order, or the loss is noted."""

from __future__ import annotations

import os
import select
import time
from collections import deque
from struct import Struct
from typing import TYPE_CHECKING, Any

import zmq

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from loosestep.transports.zmq.sockets import Sockets

    Part = tuple[memoryview, Callable[[], None] | None]
    Arrival = tuple[int, bytes, bytes | None, bytes | int]
    Room = Callable[[int], memoryview]

PART = 1 << 20  # bytes: longer payloads are cut so, which shows progress
INLINE = 4096  # bytes: shorter payloads travel with their header
COPIED = 128 << 10  # bytes: shorter parts are copied; pyzmq's bookkeeping for one in place takes longer
WAITING = 64  # messages that wait in libzmq for the network, or to be read; more wait here, or there
FLYING = 8  # parts among those that go, so that a message need not wait behind many
LOOK = 0.1  # seconds between two looks at connections
LOSSES = zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
LOSSES |= zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH

MARK = Struct("<I")
"""Begins every message and is the frame before a part of a payload: the number of the run that it belongs to."""
NO_RUN = MARK.pack(0)
NOBLOCK, MORE, EVENTS, POLLOUT = map(int, (zmq.NOBLOCK, zmq.SNDMORE, zmq.EVENTS, zmq.POLLOUT))
"""As enums they take microseconds."""
YIELD = getattr(os, "sched_yield", lambda: time.sleep(0))


class Outgoing:
    """What goes to one process for one run. Messages may go before parts of payloads that were given earlier."""

    def __init__(self, socket: Any, mark: bytes = NO_RUN) -> None:
        self.socket, self.mark = socket, mark
        self.messages: deque[bytes] = deque()
        self.parts: deque[Part] = deque()
        self.flying: deque[tuple[Any, Callable[[], None] | None]] = deque()  # libzmq reads their memory
        self.gone = 0  # parts that have gone

    def send(self, message: bytes) -> None:
        """Send a message, which begins with the mark, now or when there is room for it."""
        if not self.messages:
            try:
                self.put(message, 0)
            except zmq.Again:
                pass
            else:
                return
        self.messages.append(message)

    def add(self, payload: memoryview, done: Callable[[], None] | None) -> None:
        """Send a payload in parts; then call `done`."""
        last = (len(payload) - 1) // PART * PART
        for low in range(0, len(payload), PART):
            self.parts.append((payload[low : low + PART], done if low == last else None))
        self.flush()

    def flush(self) -> bool:
        """Send as much as there is room for, and return whether all has gone."""
        self.land()
        try:
            while self.messages:
                self.put(self.messages[0], 0)
                self.messages.popleft()
            while self.parts and len(self.flying) < FLYING:
                self.put(self.mark, MORE)
                part, done = self.parts.popleft()
                copied = len(part) < COPIED
                tracker = self.socket.send(part, NOBLOCK, copy=copied, track=not copied)
                self.flying.append((tracker, done))
                self.land()
        except zmq.Again:
            return False
        return not self.busy

    def put(self, frame: bytes, more: int) -> None:
        """Send a short frame; raise zmq.Again where there is no room."""
        try:
            self.socket.send(frame, NOBLOCK | more)
        except zmq.Again:  # libzmq looks for news of room once a millisecond, or when it is asked
            if not self.socket.get(EVENTS) & POLLOUT:
                raise
            self.socket.send(frame, NOBLOCK | more)

    def land(self) -> None:
        """Note the parts, in order, whose memory may be changed again."""
        while self.flying and (self.flying[0][0] is None or self.flying[0][0].done):
            _, done = self.flying.popleft()
            self.gone += 1
            if done is not None:
                done()

    @property
    def busy(self) -> bool:
        """Whether something has not gone."""
        return bool(self.messages or self.parts or self.flying)

    @property
    def blocked(self) -> bool:
        """Whether libzmq had no room for something; its descriptor says when it has, unless nothing was tried."""
        return bool(self.messages or (self.parts and len(self.flying) < FLYING))

    def drop(self) -> None:
        """Forget the parts that have not gone; their run is over."""
        self.parts.clear()
        self.flying.clear()


class Peers:
    """A socket that all others send to, and for each of them one to send by. Not safe for two threads at once."""

    def __init__(self, sockets: Sockets, rank: int, size: int, *, local: bool) -> None:
        self.sockets, self.rank, self.size = sockets, rank, size
        self.socket = sockets.server(PART + INLINE)
        self.socket.set(zmq.RCVHWM, WAITING)  # with few, each other one wakes libzmq's thread once more
        self.port = self.socket.bind_to_random_port("tcp://127.0.0.1" if local else "tcp://*")
        self.ways: dict[int, Any] = {}  # sockets to others, by rank
        self.descriptors: dict[int, int] = {}  # ... and theirs
        self.monitors: dict[int, Any] = {}
        self.sources: dict[bytes, int] = {}
        self.lost: dict[int, float] = {}  # whose connection is lost, since when
        self.heard_at = [time.monotonic()] * size
        self.looked = 0.0
        self.news = select.poll()
        self.descriptor = self.socket.get(zmq.FD)
        self.news.register(self.descriptor, select.POLLIN)
        self.more = True  # what has come may not all have been read

    def connect(self, token: bytes, ends: Sequence[str]) -> None:
        """Connect with every process, given where each listens; the token keeps others out."""
        for rank, end in enumerate(ends):
            self.sources[token + rank.to_bytes(4, "big")] = rank
            if rank != self.rank:
                socket = self.sockets.client()
                socket.set(zmq.ROUTING_ID, token + self.rank.to_bytes(4, "big"))
                socket.set(zmq.RECONNECT_IVL, -1)  # what was on its way would be lost without a word
                socket.set(zmq.SNDHWM, WAITING)
                self.monitors[rank] = socket.get_monitor_socket(LOSSES)
                socket.connect(end)
                self.ways[rank], self.descriptors[rank] = socket, socket.get(zmq.FD)

    def read(self, own: bytes, room: Room) -> Arrival | None:
        """Return the next that has come as (source, mark, message, part), None where nothing has.

        A message is whole, its mark included. A part of a payload has None in its place: of the run with the mark
        `own` it is written where room(source) says and counted, of another run it is returned.
        """
        if not self.more and not self.news.poll(0):
            return None
        receive = self.socket.recv
        while True:
            try:
                name = receive(NOBLOCK)
            except zmq.Again:
                self.more = False
                return None
            self.more = True
            content, source = receive(), self.sources.get(name)
            if source is None:  # a stranger, who may send more frames
                while self.socket.get(zmq.RCVMORE):
                    receive()
                continue
            self.heard_at[source] = time.monotonic()
            mark = content[: MARK.size]
            if len(content) > MARK.size:
                return source, mark, content, 0
            return source, mark, None, self.socket.recv_into(room(source)) if mark == own else receive()

    def look(self) -> None:
        """Note, now and then, whose connection is lost."""
        now = time.monotonic()
        if now - self.looked < LOOK:
            return
        self.looked = now
        self.sockets.admit()
        self.sockets.cores.follow()
        for rank, monitor in self.monitors.items():
            while monitor.poll(0):
                monitor.recv_multipart()
                self.lost.setdefault(rank, now)

    def rest(self, ranks: Iterable[int]) -> None:
        """Sleep for a millisecond, or until something may have come or may go to some ranks; for any thread."""
        if self.more:
            return
        sleeper = select.poll()  # one refuses to be asked in two threads
        for descriptor in (self.descriptor, *(self.descriptors[rank] for rank in ranks)):
            sleeper.register(descriptor, select.POLLIN)
        sleeper.poll(1)
