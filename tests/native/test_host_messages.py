"""HostMessages: what one rank sends another receives, whatever its length and whenever either asks."""

import os
import random
import time

import numpy as np
import pytest
from tests.native.processes import PATIENCE, SERVER, result_of
from tests.native.threads import on_threads, same_bits

from loosestep import _core, ops

PIECE = 1 << 17  # float32s in a piece; a pool has 8 pieces, a ring 16 slots
SIZES = [0, 1, 256, 1024, 1025, PIECE, PIECE + 1, 11 * PIECE + 3]


class opened:  # noqa: N801
    """An end for every rank, all in this process; the run calls them 10, 11, ..."""

    def __init__(self, size, pulls=True):
        self.names, self.pulls = [10 + place for place in range(size)], pulls

    def __enter__(self):
        self.memory = _core.Host.make(_core.HostMessages.needed(len(self.names)))
        make = lambda name: _core.HostMessages(self.memory, self.names, name, name == 10, self.pulls)  # noqa: E731
        self.ends = [make(name) for name in self.names]
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


def drawn(n, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).integers(-1000, 1000, n).astype(dtype)


def reported(ends, *numbers):
    """Go on with all ends until each has reported these, in turn."""
    left = [set(each) - {0} for each in numbers]
    until = time.monotonic() + PATIENCE
    while any(left):
        for end, each in zip(ends, left, strict=True):
            each -= set(end.advance() or ())
        assert time.monotonic() < until, f"{left} are not done"


@pytest.mark.parametrize("pulls", [True, False])
@pytest.mark.parametrize("n", SIZES)
def test_two_that_send_before_they_receive_do_not_block_each_other(n, pulls):
    with opened(2, pulls) as ends:

        def work(rank):
            into = np.empty(n, np.float32)
            for turn in range(3):
                exchange(ends[rank], [(11 - rank, drawn(n, rank + turn))], [(11 - rank, into)], tag=turn)
                assert same_bits(into, drawn(n, 1 - rank + turn))

        on_threads(2, work)
        assert [(end.sent, end.received) for end in ends] == [(3, 3)] * 2


def test_an_array_may_go_to_several_ranks_and_to_one_several_times():
    with opened(3) as ends:

        def work(rank):
            left, right = 10 + (rank - 1) % 3, 10 + (rank + 1) % 3
            for n in SIZES * 2:
                x, come, notes = drawn(n, rank), np.empty((4, n), np.float32), {}
                sends = [(left, x), (right, x), (right, x), (10 + rank, x)]
                recvs = list(zip((left, left, right, 10 + rank), come, strict=True))
                exchange(ends[rank], sends, recvs, 5, rank, notes)
                for source, found in recvs:
                    assert same_bits(found, drawn(n, source - 10))
                assert notes == {left: left - 10, right: right - 10, 10 + rank: rank}

        on_threads(3, work)


@pytest.mark.parametrize("pulls", [True, False])
def test_messages_of_a_tag_keep_their_order_whoever_asks_first(pulls):
    for seed in range(20):
        with opened(2, pulls) as ends:
            drawn_order(*ends, random.Random(seed))


def drawn_order(one, two, chance):
    """Six messages of two tags, asked for by both sides in a drawn order."""
    sizes = [chance.choice(SIZES[1:6]) for _ in range(6)]
    tags = [chance.randrange(2) for _ in sizes]
    sent = [drawn(n, place) for place, n in enumerate(sizes)]
    come = [np.empty(n, np.float32) for n in sizes]
    asks = list(zip(tags, sent, strict=True))
    wants = list(zip(tags, come, strict=True))
    while asks or wants:
        if asks and (not wants or chance.random() < 0.5):
            tag, x = asks.pop(0)
            start(one, [(11, x)], [], tag)
        else:
            tag, x = wants.pop(0)
            start(two, [], [(10, x)], tag)
        chance.choice((one, two)).advance()
    until = time.monotonic() + PATIENCE
    while not all(same_bits(a, b) for a, b in zip(sent, come, strict=True)):
        one.advance()
        two.advance()
        assert time.monotonic() < until


def test_short_ones_to_a_rank_that_is_late_are_copied_and_hold_nobody_up():
    with opened(2) as (one, two):
        for number in range(100):
            assert start(one, [(11, np.array([number], np.int64))], []) == 0
        come = [np.zeros(1, np.int64) for _ in range(100)]
        reported((one, two), [], [start(two, [], [(10, each)]) for each in come])
        assert [int(each[0]) for each in come] == list(range(100))


@pytest.mark.parametrize("dtype", ["?", "b", "H", "i8", "f4", "f8", "c16"])
def test_any_element_type_and_any_layout(dtype):
    with opened(2) as (one, two):
        whole = np.arange(4000).reshape(50, 80).astype(dtype)
        for sent in (whole, whole.T, whole[::2, 3:]):
            come = np.zeros((2, *sent.shape), dtype)
            into = np.moveaxis(come, 0, -1)[..., 1]
            number = start(one, [(11, sent)], [])
            reported((one, two), [number], [start(two, [], [(10, into)])])
            assert np.array_equal(into, sent)
            assert not come[0].any()


def test_what_is_not_as_expected_is_named_and_ends_all():
    with opened(2) as (one, two):
        start(one, [(11, np.zeros(7))], [])
        words = "worker 10 sent 7 float64 to worker 11, which expects 3 float32 in round 0"
        with pytest.raises(_core.Mismatch, match=words):
            start(two, [], [(10, np.zeros(3, np.float32))])
        with pytest.raises(_core.Mismatch, match=words):
            start(two, [], [(10, np.zeros(7))])
        assert two.advance() is None
    with opened(2) as (one, two):
        start(two, [], [(10, np.zeros(3, np.float32))])
        start(one, [(11, np.zeros(3, np.int32))], [])
        with pytest.raises(_core.Mismatch, match="worker 10 sent 3 int32 to worker 11, which expects 3 float32"):
            two.advance()
        assert two.advance() is None


def test_arguments_are_checked():
    frozen = np.zeros(3)
    frozen.flags.writeable = False
    with opened(2) as (one, _):
        for sends, recvs, error, words in (
            ([(3, np.zeros(3))], [], ValueError, "sends must be ranks of this host, got 3"),
            ([], [(11, frozen)], ValueError, "recvs must be writable arrays, got a read-only one"),
            ([(11, [1.0])], [], TypeError, "sends must hold numpy arrays, got list"),
            ([11], [], ValueError, "sends must be pairs of a rank and an array"),
        ):
            with pytest.raises(error, match=words):
                start(one, sends, recvs)
        with pytest.raises(ValueError, match="has begun no exchange 77"):
            one.wait(77, 0.0)
        with pytest.raises(TypeError, match="buf must be a numpy array of float32 or float64"):
            one.begin_mix(np.zeros(3, np.int32), [(10, 1.0)], [], 1, 0)
    with pytest.raises(ValueError, match="this HostMessages is closed"):
        start(one, [], [])


# --- sums ------------------------------------------------------------------------------------------------


def mixed(size, n, dtype, rank):
    """What the sum over all is for a rank, and its weights."""
    weights = [(10 + other, 0.1 * (other + 1) + rank) for other in range(size)]
    want = np.empty(n, dtype)
    ops.weighted_sum([drawn(n, other, dtype) for other in range(size)], [weight for _, weight in weights], want)
    return weights, want


def finish(end, number):
    until = time.monotonic() + PATIENCE
    while not end.wait(number, 0.01):
        end.advance()
        assert time.monotonic() < until


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_sum_has_the_bits_of_weighted_sum(size, dtype):
    with opened(size) as ends:

        def work(rank):
            for n in SIZES:
                x, (weights, want) = drawn(n, rank, dtype), mixed(size, n, dtype, rank)
                readers = [10 + other for other in range(size) if other != rank]
                finish(ends[rank], ends[rank].begin_mix(x, weights, readers, n + 1, 0))
                assert same_bits(x, want)

        on_threads(size, work)


def test_a_sum_is_written_when_it_is_waited_for():
    n = SIZES[-1]
    with opened(2) as ends:
        xs = [drawn(n, rank) for rank in range(2)]
        all_ = [mixed(2, n, np.float32, rank) for rank in range(2)]
        numbers = [ends[rank].begin_mix(xs[rank], all_[rank][0], [11 - rank], 1, 0) for rank in range(2)]
        for _ in range(100):
            for end in ends:
                end.advance()
        assert all(same_bits(x, drawn(n, rank)) for rank, x in enumerate(xs))
        on_threads(2, lambda rank: finish(ends[rank], numbers[rank]))
        assert all(same_bits(xs[rank], all_[rank][1]) for rank in range(2))


def test_a_neighbour_that_is_late_holds_no_other_message_up():
    """Rank 0's sum lacks rank 2's term, and the pieces of rank 1, which sends more, are all taken by it."""
    n = SIZES[-1]
    with opened(3, pulls=False) as ends:
        xs, weights = [drawn(n, rank) for rank in range(3)], [(10, 1.0), (11, 2.0), (12, 3.0)]
        first = ends[0].begin_mix(xs[0], weights, [11, 12], 1, 0)
        second = ends[1].begin_mix(xs[1], weights, [10, 12], 1, 0)
        assert not ends[0].wait(first, 0.0)
        more, come = drawn(n, 5), np.empty(n, np.float32)
        reported(ends, [start(ends[0], [], [(11, come)])], [start(ends[1], [(10, more)], [])], [])
        assert same_bits(come, more)
        last = ends[2].begin_mix(xs[2], weights, [10, 11], 1, 0)
        on_threads(3, lambda rank: finish(ends[rank], (first, second, last)[rank]))
        want = np.empty(n, np.float32)
        ops.weighted_sum([drawn(n, rank) for rank in range(3)], [1.0, 2.0, 3.0], want)
        assert all(same_bits(x, want) for x in xs)


# --- processes -------------------------------------------------------------------------------------------


def other_side(path, pipe):
    """Rank 11: sends back what comes, twice as large; then waits for what never comes."""
    end = _core.HostMessages(path, [10, 11], 11, False)
    for n in SIZES * 2:
        come = np.empty(n, np.float32)
        exchange(end, [], [(10, come)])
        exchange(end, [(10, 2 * come)], [])
    pipe.send(("fine", None))
    exchange(end, [], [(10, np.empty(1))], 9)


def test_processes_and_one_that_is_killed():
    memory = _core.Host.make(_core.HostMessages.needed(2))
    end = _core.HostMessages(memory, [10, 11], 10, True)
    pipe, theirs = SERVER.Pipe()
    other = SERVER.Process(target=other_side, args=(f"/proc/{os.getpid()}/fd/{memory}", theirs))
    other.start()
    try:
        for n in SIZES * 2:
            back = np.empty(n, np.float32)
            exchange(end, [(11, drawn(n, n))], [])
            exchange(end, [], [(11, back)])
            assert same_bits(back, 2 * drawn(n, n))
        result_of(pipe)
        other.kill()
        other.join()
        numbers = [
            end.exchange([(11, drawn(n))], [(11, np.empty(n, np.float32))], 2, 0.0, None, 0, 0.01) for n in SIZES
        ]
        assert all(numbers)
        assert not any(end.wait(number, 0.01) for number in numbers)
    finally:
        other.kill()
        end.close()
        os.close(memory)


def test_a_forked_copy_cannot_use_it():
    with opened(1) as (end,):
        pid = os.fork()
        if pid == 0:
            try:
                start(end, [], [])
            except RuntimeError as error:
                os._exit(0 if "opened by another process" in str(error) else 98)
            finally:
                os._exit(99)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
