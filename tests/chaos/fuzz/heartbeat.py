"""Datagrams to the heartbeat between hosts: who is not a worker of the run is not heard, and keeps nobody from it.

All go over the loopback, from this process to itself.
"""

from __future__ import annotations

import socket
import struct
import time
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING

from loosestep._core import Pulse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.draw import Draw

ALL = 200
LOOPBACK = "127.0.0.1"
SIZE = 3
FLOOD = 3000  # datagrams
MOMENT = 0.05  # seconds for what was sent to be heard, if it is
SOON = 10.0  # seconds


class Wire:
    """Rank 0, the beats that rank 1 sends it, and a socket between the two that lets through what it likes."""

    def __init__(self) -> None:
        self.first, self.second = Pulse(0, SIZE), Pulse(1, SIZE)
        self.between = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.between.bind((LOOPBACK, 0))
        self.between.settimeout(SOON)
        self.second.reach(self.first.key, [LOOPBACK], self.between.getsockname()[1])

    def beat(self) -> bytes:
        """The next one of rank 1."""
        return self.between.recv(65_536)

    def send(self, *datagrams: bytes) -> None:
        """To rank 0."""
        for each in datagrams:
            self.between.sendto(each, (LOOPBACK, self.first.port))

    def heard(self) -> list[bool]:
        """Whom rank 0 has heard so far."""
        time.sleep(MOMENT)
        return [self.first.age(rank) < inf for rank in range(SIZE)]

    def check_it_still_hears(self) -> None:
        """A true beat, however much came before it."""
        until = time.monotonic() + SOON
        while self.first.age(1) == inf:
            assert time.monotonic() < until, "beats are not heard any more"
            self.send(self.beat())
            time.sleep(MOMENT)

    def close(self) -> None:
        self.first.close()
        self.second.close()
        self.between.close()


@contextmanager
def wire() -> Iterator[Wire]:
    made = Wire()
    try:
        yield made
    finally:
        made.close()


NOBODY = [False] * SIZE


def unheard(draw: Draw, *datagrams: bytes) -> str:
    """These are nobody's, and the next true one is."""
    with wire() as between:
        between.send(*datagrams)
        assert between.heard() == NOBODY
        between.check_it_still_hears()
    return "unheard"


def random_bytes(draw: Draw) -> str:
    return unheard(draw, *(draw.randbytes(draw.choice((0, 1, 15, 16, 17, 64, 1472, 60_000))) for _ in range(50)))


def another_key(draw: Draw) -> str:
    """The length and the ranks of a beat."""
    ranks = (0, 1, 2, 3, 2**31, 2**32 - 1)
    return unheard(draw, *(draw.randbytes(8) + struct.pack("<II", draw.choice(ranks), 0) for _ in range(200)))


def cut_or_longer(draw: Draw) -> str:
    """A true beat without its end, or with more behind it."""
    with wire() as between:
        beat = between.beat()
        between.send(*(beat[: draw.randrange(len(beat))] for _ in range(20)))
        between.send(*(beat + draw.randbytes(draw.randrange(1, 100)) for _ in range(20)))
        assert between.heard() == NOBODY
        between.check_it_still_hears()
    return "unheard"


def bits_of_the_key(draw: Draw) -> str:
    """A true beat with one bit of the secret changed, each of them."""
    with wire() as between:
        beat = between.beat()
        for bit in range(64):
            changed = bytearray(beat)
            changed[bit // 8] ^= 1 << bit % 8
            between.send(bytes(changed))
        assert between.heard() == NOBODY
        between.check_it_still_hears()
    return "unheard"


def replayed(draw: Draw) -> str:
    """Whoever has read a beat off the network cannot keep a dead worker alive with it."""
    with wire() as between:
        beat = between.beat()
        between.send(beat)
        assert between.heard()[1]
        between.second.close()
        time.sleep(1)
        between.send(beat, beat)
        assert between.heard()[1]
        assert between.first.age(1) > 0.5, "a beat of a worker that has gone was heard again"
    return "unheard"


def flooded(draw: Draw) -> str:
    with wire() as between:
        for _ in range(FLOOD // 10):
            between.send(*(draw.randbytes(draw.choice((16, 16, 1000))) for _ in range(10)))
        between.check_it_still_hears()
    return "heard"


def both_ways(draw: Draw) -> str:
    """Nothing in between: the same case as it should be."""
    with wire() as between:
        between.check_it_still_hears()
        assert between.heard() == [False, True, False]
    return "heard"


KINDS = {
    each.__name__: each
    for each in (random_bytes, another_key, cut_or_longer, bits_of_the_key, replayed, flooded, both_ways)
}
