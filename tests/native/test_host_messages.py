"""HostMessages: what one rank sends another receives, whatever its length and whenever either asks."""

import os
import random
import time

import numpy as np
import pytest
from tests.native.processes import PATIENCE, SPAWN, result_of
from tests.native.threads import arrays, on_threads, same_bits

from loosestep import _core, ops

PIECE = 1 << 17  # float32s in a piece; a pool has 8 pieces, a ring 16 slots
SIZES = [0, 1, 256, 1024, 1025, PIECE, PIECE + 1, 11 * PIECE + 3]


class opened:  # noqa: N801
    """An end for every rank, all in this process; the run calls them 10, 11, ..."""

    def __init__(self, size):
        self.size, self.names = size, [10 + place for place in range(size)]

    def __enter__(self):
        self.memory = _core.Host.make(_core.HostMessages.needed(self.size))
        self.ends = [_core.HostMessages(self.memory, self.names, name, name == 10) for name in self.names]
        return self.ends

    def __exit__(self, *error):
        for end in self.ends:
            end.close()
        os.close(self.memory)


def exchange(end, sends, recvs, tag=1, note=0.0, notes=None):
    number = end.exchange(sends, recvs, tag, note, notes, 0, PATIENCE)
    while number and not end.wait(number, PATIENCE):
        pass


def start(end, sends, recvs, tag=1, note=0.0, notes=None):
    return end.begin(sends, recvs, tag, note, notes, 0)


def come(end, numbers, most=PATIENCE):
    """Go on until all of these are reported."""
    left, until = set(numbers) - {0}, time.monotonic() + most
    while left:
        left -= set(end.advance() or ())
        assert time.monotonic() < until, f"{len(left)} are not done"


def drawn(n, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).integers(-1000, 1000, n).astype(dtype)


@pytest.mark.parametrize("n", SIZES)
def test_two_that_send_before_they_receive_do_not_block_each_other(n):
    with opened(2) as ends:
        def work(rank):
            other = 11 - rank
            out, into = drawn(n, rank), np.empty(n, np.float32)
            for turn in range(3):
                exchange(ends[rank], [(other, out)], [(other, into)], tag=turn)
                assert same_bits(into, drawn(n, 1 - rank))
        on_threads(2, work)


def test_neighbours():
    with opened(3) as ends:
        def work(rank):
            left, right = 10 + (rank - 1) % 3, 10 + (rank + 1) % 3
            for n in SIZES:
                x, both, notes = drawn(n, rank), np.empty((2, n), np.float32), {}
                exchange(ends[rank], [(left, x), (right, x)], [(left, both[0]), (right, both[1])], 5, rank, notes)
                assert same_bits(both[0], drawn(n, left - 10))
                assert notes == {left: left - 10, right: right - 10}
        on_threads(3, work)
