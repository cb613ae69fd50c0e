"""Connections between processes: order, room, parts, strangers, and what is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

zmq = pytest.importorskip("zmq")

from loosestep.transports.zmq import peers  # noqa: E402
from loosestep.transports.zmq.peers import FLYING, MARK, NO_RUN, PART, Outgoing, Peers  # noqa: E402
from loosestep.transports.zmq.sockets import Sockets  # noqa: E402

TOKEN = b"8 bytes!"


class Narrow:
    """A socket with room for so many messages; of more room it knows when it is asked, as libzmq does."""

    def __init__(self, room: int) -> None:
        self.room, self.more, self.sent, self.begun = room, 0, list[bytes](), False
        self.flying: list[SimpleNamespace] = []

    def get(self, what: int) -> int:
        assert what == zmq.EVENTS
        self.room, self.more = self.room + self.more, 0
        return int(zmq.POLLOUT if self.room else 0)

    def send(self, what: Any, flags: int = 0, copy: bool = True, track: bool = False) -> Any:
        if not self.room and not self.begun:
            raise zmq.Again
        self.begun = bool(flags & zmq.SNDMORE)
        self.room -= not self.begun
        if not self.begun:
            self.sent.append(bytes(what))
        if not track:
            return None
        self.flying.append(SimpleNamespace(done=False))
        return self.flying[-1]


def test_what_finds_no_room_waits_and_messages_pass_parts() -> None:
    socket, done = Narrow(2), list[str]()
    one = Outgoing(socket)
    one.add(memoryview(bytes(2 * PART + 1)), lambda: done.append("whole"))
    assert (len(socket.sent), one.gone, done) == (2, 0, [])
    one.send(b"later, but short")
    assert not one.flush()
    socket.room = 1
    assert not one.flush()
    assert socket.sent[-1] == b"later, but short"
    socket.room = 1
    assert not one.flush()
    assert (len(socket.sent[-1]), done) == (1, [])
    for tracker in socket.flying:
        assert not done, "libzmq reads the memory of the parts before the last"
        tracker.done = True
        one.flush()
    assert (one.gone, done, one.busy) == (3, ["whole"], False)


def test_libzmq_is_asked_for_room_before_a_message_waits() -> None:
    socket = Narrow(1)
    one = Outgoing(socket)
    one.send(b"first")
    one.send(b"waits")
    assert (socket.sent, one.busy, one.blocked) == ([b"first"], True, True)
    socket.more = 2
    one.send(b"behind it")
    assert socket.sent == [b"first"], "messages keep their order"
    assert one.flush()
    assert socket.sent == [b"first", b"waits", b"behind it"]
    one.add(memoryview(b"part"), None)
    socket.more = 1
    assert one.flush()
    assert socket.sent[-1] == b"part"


def test_only_so_many_parts_fly_at_once() -> None:
    socket, told = Narrow(1000), list[str]()
    one = Outgoing(socket)
    one.add(memoryview(bytes(PART * (FLYING + 2))), lambda: told.append("whole"))
    assert len(socket.sent) == FLYING
    assert not one.blocked, "it waits for those that fly, not for room"
    one.send(b"a message")
    assert socket.sent[-1] == b"a message"
    socket.flying[0].done = True
    assert not one.flush()
    assert len(socket.flying) == FLYING + 1
    for _ in range(FLYING + 2):
        for tracker in socket.flying:
            tracker.done = True
        one.flush()
    assert (told, one.gone, one.busy) == (["whole"], FLYING + 2, False)


def test_parts_of_a_run_that_is_over_are_dropped() -> None:
    one = Outgoing(Narrow(0))
    one.add(memoryview(bytes(PART)), None)
    one.drop()
    assert one.flush()


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Peers]]:
    monkeypatch.delenv("LOOSESTEP_KEY", raising=False)
    made = [Peers(Sockets("k"), rank, 2, local=True) for rank in range(2)]
    for each in made:
        each.connect(TOKEN, [f"tcp://127.0.0.1:{other.port}" for other in made])
    yield made
    for each in made:
        each.sockets.close(0)


def sender(one: Peers, mark: bytes = NO_RUN) -> Outgoing:
    """What one of two sends to the other by, for a run."""
    return Outgoing(one.ways[1 - one.rank], mark)


def come(one: Peers, senders: list[Outgoing], count: int, own: bytes = NO_RUN, room: Any = None) -> list[Any]:
    """The next so many that come."""
    found: list[Any] = []
    until = time.monotonic() + 20
    while len(found) < count:
        assert time.monotonic() < until, found
        one.looked = 0.0
        one.look()
        for outgoing in senders:
            outgoing.flush()
        arrival = one.read(own, room or (lambda source: memoryview(bytearray(PART))))
        found += [] if arrival is None else [arrival]
    return found


def test_messages_come_in_order_and_parts_where_they_belong(pair: list[Peers]) -> None:
    one, other = pair
    outgoing = sender(one)
    for number in range(50):
        outgoing.send(NO_RUN + b"%d" % number)
    other.looked = 0.0
    assert come(other, [outgoing], 50) == [(0, NO_RUN, NO_RUN + b"%d" % number, 0) for number in range(50)]
    payload, into = bytes(range(256)) * (PART // 100), bytearray(PART // 100 * 256)
    low = 0

    def room(source: int) -> memoryview:
        nonlocal low
        low += PART
        return memoryview(into)[low - PART : low]

    outgoing.add(memoryview(payload), None)
    found = come(other, [outgoing], len(payload) // PART + 1, NO_RUN, room)
    assert {(source, mark, message) for source, mark, message, _ in found} == {(0, NO_RUN, None)}
    assert sum(count for _, _, _, count in found) == len(payload)
    assert bytes(into) == payload
    assert other.heard_at[0] > other.heard_at[1]


def test_a_part_of_another_run_is_returned(pair: list[Peers]) -> None:
    one, other = pair
    second = MARK.pack(2)
    outgoing = sender(one, second)
    outgoing.add(memoryview(b"for the second"), None)
    assert come(other, [outgoing], 1, MARK.pack(1)) == [(0, second, None, b"for the second")]


def test_a_lost_connection_is_noted(pair: list[Peers]) -> None:
    one, other = pair
    outgoing = sender(one)
    outgoing.send(NO_RUN + b"here")
    come(other, [outgoing], 1)
    other.sockets.close(0)
    until = time.monotonic() + 10
    while 1 not in one.lost:
        assert time.monotonic() < until
        one.looked = 0.0
        one.look()


def test_a_stranger_with_the_key_and_without_the_token_is_not_heard(pair: list[Peers]) -> None:
    one, other = pair
    stranger = other.sockets.client()
    stranger.connect(f"tcp://127.0.0.1:{one.port}")
    stranger.send_multipart([NO_RUN + b"\1" * 48, b"", b"more"])
    outgoing = sender(other)
    outgoing.send(NO_RUN + b"known")
    one.looked = 0.0
    assert come(one, [outgoing], 1) == [(1, NO_RUN, NO_RUN + b"known", 0)]
    time.sleep(0.1)
    assert one.read(NO_RUN, lambda source: memoryview(b"")) is None
    stranger.close(0)


@pytest.mark.parametrize("ranks", [(), (1,)])
def test_it_rests_until_something_comes(ranks: tuple[int, ...], pair: list[Peers]) -> None:
    one, other = pair
    outgoing = sender(other)
    outgoing.send(NO_RUN + b"x")
    come(one, [outgoing], 1)
    while one.read(NO_RUN, lambda source: memoryview(b"")) is not None:
        pass
    began = time.monotonic()
    for _ in range(5):
        one.rest(ranks)
    assert ranks or time.monotonic() - began > 0.002
    assert peers.LOOK > 0
