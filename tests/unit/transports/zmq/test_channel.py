"""One run's messages over connections between threads: headers, payloads, a process to itself, and who is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

zmq = pytest.importorskip("zmq")

from tests.mpi.wires import together  # noqa: E402

from loosestep.foundation.errors import PeerFailed  # noqa: E402
from loosestep.transports.processes.wire import Header, Kind  # noqa: E402
from loosestep.transports.zmq import channel, rendezvous  # noqa: E402
from loosestep.transports.zmq.channel import ZMQChannel  # noqa: E402
from loosestep.transports.zmq.membership import Membership  # noqa: E402
from loosestep.transports.zmq.peers import INLINE, PART  # noqa: E402
from loosestep.transports.zmq.place import Place  # noqa: E402

F8 = np.dtype(float).num


@pytest.fixture
def channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ZMQChannel]]:
    monkeypatch.delenv("LOOSESTEP_KEY", raising=False)
    names = iter(range(1000))
    monkeypatch.setattr(rendezvous, "who", lambda: f"process {next(names)}")
    members = [Membership(Place(rank, 2, (f"ipc://{tmp_path}/m",), "j"), None) for rank in range(2)]
    made = together([partial(ZMQChannel, each, 20.0) for each in members])
    assert all(isinstance(each, ZMQChannel) for each in made), made
    yield made
    for each in members:
        each.sockets.close(0)


def carry(sender: ZMQChannel, receiver: ZMQChannel, values: Any) -> tuple[Any, list[str]]:
    """What comes of a message, and which of its ends were told."""
    told: list[str] = []
    into = np.zeros_like(values)
    header = Header(Kind.DATA, F8, values.size, tag=5, note=0.5)
    sender.send(receiver.rank, header, values, lambda: told.append("sent"))
    until = time.monotonic() + 20
    while len(told) < 2:
        assert time.monotonic() < until, told
        for source, came, content in receiver.poll():
            assert (source, came) == (sender.rank, header)
            if content is None:
                receiver.receive(source, into, lambda: told.append("here"))
            else:
                into[...] = np.frombuffer(content)
                told.append("here")
        list(sender.poll())
    return into, told


@pytest.mark.parametrize("length", [0, 1, INLINE // 8, INLINE // 8 + 1, PART // 8, 3 * PART // 8 + 5, 2_000_000])
@pytest.mark.parametrize("to", [0, 1])
def test_a_payload_comes_whole_short_or_in_parts(length: int, to: int, channels: list[ZMQChannel]) -> None:
    values = np.random.default_rng(length).standard_normal(length)
    into, told = carry(channels[0], channels[to], values)
    assert into.tobytes() == values.tobytes()
    assert sorted(told) == ["here", "sent"]
    long = values.nbytes > INLINE
    assert channels[to].parts - (channels[0].parts if to == 0 else 0) == (
        -(-values.nbytes // PART) if to and long else 0
    )


def test_messages_of_one_sender_come_in_order(channels: list[ZMQChannel]) -> None:
    one, other = channels
    for number in range(100):
        one.send(1, Header(Kind.ACK, number=number), None, None)
    found: list[int] = []
    until = time.monotonic() + 10
    while len(found) < 100:
        assert time.monotonic() < until
        found += [header.number for _, header, _ in other.poll()]
        list(one.poll())
    assert found == list(range(100))
    assert other.last_heard(0) > other.last_heard(1)


def test_a_part_of_another_length_is_an_error(channels: list[ZMQChannel]) -> None:
    incoming = channel.Incoming()
    incoming.waiting.append((memoryview(bytearray(10)), lambda: None))
    with pytest.raises(RuntimeError, match="a part of 9 bytes came where 10 are left"):
        incoming.advance(9)


def lose(one: ZMQChannel, other: ZMQChannel) -> None:
    other.peers.sockets.close(0)
    until = time.monotonic() + 10
    while 1 not in one.peers.lost:
        assert time.monotonic() < until
        list(one.poll())
    one.peers.lost[1] -= channel.GRACE


def test_who_is_lost_without_a_word_has_failed(channels: list[ZMQChannel]) -> None:
    lose(*channels)
    with pytest.raises(PeerFailed, match=r"worker 1 failed: without a word \(its connection is closed\)"):
        list(channels[0].poll())


def test_who_has_left_may_go(channels: list[ZMQChannel]) -> None:
    one, other = channels
    other.send(0, Header(Kind.LEFT), None, None)
    until = time.monotonic() + 10
    while not one.left:
        assert time.monotonic() < until
        list(one.poll())
    lose(one, other)
    list(one.poll())


def test_what_its_membership_says_is_no_message_of_the_run(channels: list[ZMQChannel]) -> None:
    one, other = channels
    other.membership.tell("ended")
    until = time.monotonic() + 10
    while not one.membership.gone:
        assert time.monotonic() < until
        assert list(one.poll()) == []
    one.rest(1e-3)


def test_a_run_that_is_over_leaves_the_connections_to_the_next(channels: list[ZMQChannel]) -> None:
    for each in channels:
        each.close(orderly=False)
        assert not each.membership.inside
    again = together([partial(ZMQChannel, each.membership, 20.0) for each in channels])
    into, _ = carry(again[1], again[0], np.arange(5000.0))
    assert into.tobytes() == np.arange(5000.0).tobytes()


def second(channels: list[ZMQChannel]) -> list[ZMQChannel]:
    """Another run of the same processes, beside the first."""
    made = together([partial(ZMQChannel, each.membership, 20.0) for each in channels])
    assert all(isinstance(each, ZMQChannel) for each in made), made
    return made


def test_runs_beside_each_other_get_their_own_whoever_reads(channels: list[ZMQChannel]) -> None:
    other = second(channels)
    values = [np.full(length, float(length)) for length in (10, 5000, 400_000)]
    for number, each in enumerate(values):
        for place, pair in enumerate((channels, other)):
            pair[0].send(1, Header(Kind.DATA, F8, each.size, number=number), each + place, None)
    came: dict[int, list[Any]] = {0: [], 1: []}
    until = time.monotonic() + 20
    while sum(map(len, came.values())) < 6:
        assert time.monotonic() < until
        for place, pair in enumerate((channels, other)):
            list(pair[0].poll())
            for _ in range(2 - place):  # the first reads more often, also what is the second's
                for source, header, content in pair[1].poll():
                    into = np.zeros(header.size)
                    if content is None:
                        pair[1].receive(source, into, partial(came[place].append, into))
                    else:
                        into[...] = np.frombuffer(content)
                        came[place].append(into)
    for place in (0, 1):
        assert [each.tolist() for each in came[place]] == [(each + place).tolist() for each in values]


def test_closing_one_run_leaves_the_other(channels: list[ZMQChannel]) -> None:
    other = second(channels)
    channels[0].send(1, Header(Kind.ACK, number=1), None, None)
    for each in channels:
        each.close(orderly=True)
        assert each.membership.inside
    into, _ = carry(other[0], other[1], np.arange(3000.0))
    assert into.tobytes() == np.arange(3000.0).tobytes()
    other[0].close(orderly=True)
    assert not other[0].membership.inside


def test_who_is_lost_has_failed_in_all_runs(channels: list[ZMQChannel]) -> None:
    other = second(channels)
    lose(*channels)
    for one in (channels[0], other[0]):
        with pytest.raises(PeerFailed, match=r"worker 1 failed: without a word"):
            list(one.poll())


def test_a_worker_yields_its_core_and_sleeps_among_strangers(
    channels: list[ZMQChannel], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, log, clock = channels[0], list[str](), [0.0]
    monkeypatch.setattr(channel.time, "monotonic", lambda: clock[0])

    def give(seconds: float) -> Any:
        def act() -> None:
            log.append("yields")
            clock[0] += seconds

        return act

    monkeypatch.setattr(channel.ZMQChannel, "rest", lambda self, seconds: log.append("sleeps"))
    monkeypatch.setattr(channel, "YIELD", give(channel.LONG / 2))
    for _ in range(2):
        one.pause()
    monkeypatch.setattr(channel, "YIELD", give(channel.LONG * 2))
    for _ in range(1 + channel.CROWDED + 1):
        one.pause()
    assert log == ["yields"] * 3 + ["sleeps"] * channel.CROWDED + ["yields"]


def test_a_worker_sleeps_while_a_long_payload_comes(
    channels: list[ZMQChannel], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, log = channels[0], list[str]()
    monkeypatch.setattr(channel.ZMQChannel, "rest", lambda self, seconds: log.append("sleeps"))
    monkeypatch.setattr(channel, "YIELD", lambda: log.append("yields"))
    one.receive(1, np.zeros(4), lambda: log.append("whole"))
    one.pause()
    one.advance(1, bytes(32))
    one.pause()
    assert log == ["sleeps", "whole", "yields"]


def test_the_end_of_the_job_is_told_to_the_guard(
    channels: list[ZMQChannel], monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[Any] = []
    monkeypatch.setattr(channel, "tell_guard", log.append)
    monkeypatch.setattr(channel.os, "_exit", log.append)
    channels[0].end_job()
    assert log == ["abort", 1]
