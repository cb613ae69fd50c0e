"""Connections between processes: order, room, parts, strangers, and what is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

zmq = pytest.importorskip("zmq")

from loosestep.transports.zmq import peers  # noqa: E402
from loosestep.transports.zmq.peers import PART, Outgoing, Peers  # noqa: E402
from loosestep.transports.zmq.sockets import Sockets  # noqa: E402

TOKEN = b"8 bytes!"


class Narrow:
    """A socket that has room for so many messages."""

    def __init__(self, room: int) -> None:
        self.room, self.sent, self.begun = room, list[bytes](), False
        self.flying: list[SimpleNamespace] = []

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


def come(one: Peers, others: list[Peers], count: int, room: Any = None) -> list[Any]:
    """The next so many that come."""
    found: list[Any] = []
    until = time.monotonic() + 20
    while len(found) < count:
        assert time.monotonic() < until, found
        for each in others:
            each.looked = 0.0
            each.look()
            for outgoing in each.outgoing.values():
                outgoing.flush()
        found += one.arrived(room or (lambda source: memoryview(bytearray(PART))))
    return found


def test_messages_come_in_order_and_parts_where_they_belong(pair: list[Peers]) -> None:
    one, other = pair
    for number in range(50):
        one.outgoing[1].send(b"%d" % number)
    assert come(other, pair, 50) == [(0, b"%d" % number, 0) for number in range(50)]
    payload, into = bytes(range(256)) * (PART // 100), bytearray(PART // 100 * 256)
    low = 0

    def room(source: int) -> memoryview:
        nonlocal low
        low += PART
        return memoryview(into)[low - PART : low]

    one.outgoing[1].add(memoryview(payload), None)
    found = come(other, pair, len(payload) // PART + 1, room)
    assert {content for _, content, _ in found} == {None}
    assert sum(count for _, _, count in found) == len(payload)
    assert bytes(into) == payload
    assert other.heard_at[0] > other.heard_at[1]


def test_a_lost_connection_is_noted(pair: list[Peers]) -> None:
    one, other = pair
    one.outgoing[1].send(b"here")
    come(other, pair, 1)
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
    stranger.send_multipart([b"\1" * 48, b"", b"more"])
    other.outgoing[0].send(b"known")
    assert come(one, pair, 1) == [(1, b"known", 0)]
    time.sleep(0.1)
    assert list(one.arrived(lambda source: memoryview(b""))) == []
    stranger.close(0)


def test_it_rests_until_something_comes(pair: list[Peers]) -> None:
    one, other = pair
    other.outgoing[0].send(b"x")
    come(one, pair, 1)
    began = time.monotonic()
    for _ in range(5):
        one.rest()
    assert time.monotonic() - began > 0.002
    assert peers.LOOK > 0
