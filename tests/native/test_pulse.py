"""The heartbeat between hosts, by itself."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from math import inf

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


def test_who_does_not_know_the_key_is_not_heard() -> None:
    first, stranger = Pulse(0, 2), Pulse(1, 2)
    stranger.reach(first.key ^ 1, ["127.0.0.1"], first.port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as noise:
        for length in (0, 1, 16, 17, 2000):
            noise.sendto(bytes(length), ("127.0.0.1", first.port))
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
    reach = f"reach({first.key}, ['127.0.0.1'], {first.port})"
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
    with pytest.raises(ValueError, match="^an IPv4 address was wanted, got ten$"):
        Pulse(0, 2).reach(1, ["ten"], 1)
