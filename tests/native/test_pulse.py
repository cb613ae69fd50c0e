"""The heartbeat between hosts, by itself."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from math import inf
from pathlib import Path

import pytest

from loosestep._core import Pulse

PERIOD = 0.5  # seconds between two beats


def joined() -> tuple[Pulse, Pulse]:
    pulses = Pulse(0, 2), Pulse(1, 2)
    for one, other in (pulses, pulses[::-1]):
        one.reach(other.key, Pulse.addresses(), other.port)
    return pulses


def soon(ready: Callable[[], bool], seconds: float = 10) -> bool:
    until = time.monotonic() + seconds
    while not ready() and time.monotonic() < until:
        time.sleep(0.01)
    return ready()


def test_beats_are_felt_and_go_on() -> None:
    first, second = joined()
    assert soon(lambda: max(first.age(1), second.age(0)) < inf)
    before = time.monotonic()
    assert soon(lambda: time.monotonic() - before > first.age(1))  # one that came after `before`
    assert first.age(0) == inf


def test_who_is_closed_is_silent() -> None:
    first, second = joined()
    assert soon(lambda: first.age(1) < inf)
    second.close()
    closed = time.monotonic()
    assert soon(lambda: first.age(1) > 3 * PERIOD)
    assert first.age(1) >= time.monotonic() - closed - 0.1
    with pytest.raises(ValueError, match="^this Pulse is closed$"):
        second.age(0)


def sip_hash(key: bytes, text: bytes) -> int:
    """SipHash-2-4 as its paper says it."""
    top, (low, high) = 2**64 - 1, struct.unpack("<2Q", key)
    v = [low ^ 0x736F6D6570736575, high ^ 0x646F72616E646F6D, low ^ 0x6C7967656E657261, high ^ 0x7465646279746573]

    def turn(word: int, bits: int) -> int:
        return (word << bits | word >> 64 - bits) & top

    def rounds(count: int) -> None:
        for _ in range(count):
            for a, b, c, d, left, right in ((0, 1, 2, 3, 13, 16), (2, 1, 0, 3, 17, 21)):
                v[a], v[c] = (v[a] + v[b]) & top, (v[c] + v[d]) & top
                v[b], v[d] = turn(v[b], left) ^ v[a], turn(v[d], right) ^ v[c]
                v[a] = turn(v[a], 32)

    padded = text + bytes(-(len(text) + 1) % 8) + bytes([len(text) % 256])
    for (word,) in struct.iter_unpack("<Q", padded):
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def beat(key: bytes, number: int, rank: int) -> bytes:
    text = struct.pack("<2Q", number, rank)
    return text + struct.pack("<Q", sip_hash(key, text))


def send(port: int, *datagrams: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        for datagram in datagrams:
            out.sendto(datagram, ("127.0.0.1", port))


def wait_for_what_was_sent(first: Pulse) -> None:
    """A socket's datagrams are read in order."""
    friend = Pulse(0, 3)
    before = time.monotonic()
    friend.reach(first.key, ["127.0.0.1"], first.port)
    assert soon(lambda: time.monotonic() - before > first.age(0))


def test_the_checksum_is_that_of_its_paper() -> None:
    assert sip_hash(bytes(range(16)), bytes(range(15))) == 0xA129CA6149BE45E5
    first = Pulse(0, 3)
    send(first.port, beat(first.key, 1, 1))
    assert soon(lambda: first.age(1) < inf)


def test_a_beat_is_heard_once() -> None:
    """Who records beats and sends them again keeps nobody alive."""
    first = Pulse(0, 3)
    recorded = [beat(first.key, number, 1) for number in (7, 8, 9)]
    send(first.port, *recorded)
    assert soon(lambda: first.age(1) < inf)
    last = time.monotonic() - first.age(1)
    time.sleep(0.3)
    send(first.port, *recorded, *recorded[::-1], beat(first.key, 3, 1))
    wait_for_what_was_sent(first)
    assert time.monotonic() - first.age(1) < last + 0.2, "the last is still that of before"
    send(first.port, beat(first.key, 10, 1))
    assert soon(lambda: time.monotonic() - first.age(1) > last + 0.2)


@pytest.mark.parametrize("place", range(24))
def test_a_beat_of_which_a_bit_was_changed_is_not_heard(place: int) -> None:
    first = Pulse(0, 3)
    changed = bytearray(beat(first.key, 1, 1))
    changed[place] ^= 1
    send(first.port, bytes(changed))
    wait_for_what_was_sent(first)
    assert first.age(1) == first.age(2) == inf


def test_the_key_is_in_no_datagram() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(10)
        key, one = bytes(range(100, 116)), Pulse(1, 3)
        one.reach(key, ["127.0.0.1"], listening.getsockname()[1])
        seen = [listening.recv(100) for _ in range(3)]
    (number,) = struct.unpack("<Q", seen[0][:8])
    assert seen == [beat(key, number + more, 1) for more in range(3)]


def test_a_local_one_listens_on_this_machine_alone() -> None:
    for local, wanted in ((True, "0100007F"), (False, "00000000")):
        one = Pulse(0, 2, local)
        lines = [line.split()[1] for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
        assert f"{wanted}:{one.port:04X}" in lines
    first, second = Pulse(0, 2, True), Pulse(1, 2, local=True)
    second.reach(first.key, ["127.0.0.1"], first.port)
    assert soon(lambda: first.age(1) < inf)


def test_who_does_not_know_the_key_is_not_heard() -> None:
    first, stranger = Pulse(0, 2), Pulse(1, 2)
    stranger.reach(bytes([first.key[0] ^ 1]) + first.key[1:], ["127.0.0.1"], first.port)
    send(first.port, *map(bytes, (0, 1, 16, 23, 24, 25, 2000)))
    friend = Pulse(0, 2)
    friend.reach(first.key, ["127.0.0.1"], first.port)
    assert soon(lambda: first.age(0) < inf)
    assert first.age(1) == inf


def test_a_fork_has_no_part_in_it() -> None:
    first, _ = joined()
    child = os.fork()
    if child == 0:
        try:
            first.age(1)
        except RuntimeError:
            first.close()
            os._exit(3)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert soon(lambda: first.age(1) < inf)


def test_who_is_stopped_is_silent_and_comes_back() -> None:
    first = Pulse(0, 2)
    reach = f"reach({first.key!r}, ['127.0.0.1'], {first.port})"
    text = f"import time; from loosestep._core import Pulse; p = Pulse(1, 2); p.{reach}; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", text]) as child:
        try:
            assert soon(lambda: first.age(1) < inf)
            child.send_signal(signal.SIGSTOP)
            assert soon(lambda: first.age(1) > 3 * PERIOD)
            child.send_signal(signal.SIGCONT)
            assert soon(lambda: first.age(1) < PERIOD)
        finally:
            child.kill()


@pytest.mark.parametrize(("rank", "size"), [(2, 2), (-1, 2), (0, 0)])
def test_bad_ranks_are_refused(rank: int, size: int) -> None:
    with pytest.raises(ValueError, match=r"rank|size"):
        Pulse(rank, size)


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="^expected an IPv4 address, got ten$"):
        Pulse(0, 2).reach(bytes(16), ["ten"], 1)


def test_what_is_no_key_is_refused() -> None:
    with pytest.raises(ValueError, match="^key must be the 16 bytes of another Pulse's key$"):
        Pulse(0, 2).reach(bytes(8), ["127.0.0.1"], 1)
