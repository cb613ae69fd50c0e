"""HostLane: collectives that are done before anybody waits for them, with the bits of Host, in one order."""

import os
import random
import time

import numpy as np
import pytest
from tests.native.processes import PATIENCE, SERVER, result_of
from tests.native.threads import arrays, on_threads, same_bits

from loosestep import _core
from loosestep.lowering import collectives

LENGTHS = [0, 1, 4099, (1 << 20) + 3]


class opened:  # noqa: N801
    """A lane for every rank, all in this process."""

    def __init__(self, size):
        self.size = size

    def __enter__(self):
        self.memory = _core.Host.make(_core.Host.needed(self.size))
        self.lanes = [_core.HostLane(self.memory, self.size, rank, rank == 0) for rank in range(self.size)]
        return self.lanes

    def __exit__(self, *error):
        for lane in self.lanes:
            lane.close()
        os.close(self.memory)


def folded(xs, op, weights):
    out = xs[0].copy()
    if len(xs) > 1:
        collectives.fold(op, [x.copy() for x in xs], out, weights)
    return out


def comes(x, want):
    """It becomes so while nobody calls the lane."""
    end = time.monotonic() + PATIENCE
    while not same_bits(x, want):
        assert time.monotonic() < end, "nobody went on with it"
        time.sleep(1e-3)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_what_all_have_started_is_there_before_anybody_waits(size):
    with opened(size) as lanes:
        for length in LENGTHS:
            xs, weights = arrays(size, length), [1.0 + rank for rank in range(size)]
            want = folded(xs, "mean", weights)
            numbers = [lanes[rank].all_reduce(xs[rank], "mean", weights[rank]) for rank in range(size)]
            for x in xs:
                comes(x, want)
            assert [lane.wait(number, PATIENCE) for lane, number in zip(lanes, numbers, strict=True)] == [
                "done"
            ] * size


def sums(path, rank, length, pipe):
    """Starts a sum, and touches nothing of the lane until it is there."""
    lane = _core.HostLane(path, 2, rank, False)
    x = arrays(2, length)[rank]
    number = lane.all_reduce(x, "sum", 1.0)
    comes(x, folded(arrays(2, length), "sum", [1.0, 1.0]))
    pipe.send(("fine", lane.wait(number, PATIENCE)))
    lane.close()


def test_so_it_is_between_processes():
    fd, length = _core.Host.make(_core.Host.needed(2)), 3_000_000
    mine = _core.HostLane(fd, 2, 0, True)
    pipe, theirs = SERVER.Pipe()
    other = SERVER.Process(target=sums, args=(f"/proc/{os.getpid()}/fd/{fd}", 1, length, theirs))
    other.start()
    try:
        x = arrays(2, length)[0]
        mine.all_reduce(x, "sum", 1.0)
        comes(x, folded(arrays(2, length), "sum", [1.0, 1.0]))
        assert result_of(pipe) == "done"
    finally:
        other.kill()
        other.join()
        mine.close()
        os.close(fd)


@pytest.mark.parametrize("size", [2, 3])
def test_any_number_of_any_kind_may_be_under_way_and_be_waited_for_in_any_order(size):
    with opened(size) as lanes:

        def work(rank):
            lane, luck, wrong = lanes[rank], random.Random(rank), 0
            for turn in range(10):
                xs = arrays(size, 70_001, seed=turn)
                most, sent, out = xs[rank].copy(), xs[rank].copy(), np.empty(70_001 * size, np.float32)
                numbers = [
                    lane.all_reduce(most, "max", 1.0),
                    lane.all_gather(sent, out),
                    lane.broadcast(sent, 1),
                    lane.barrier(),
                ]
                time.sleep(luck.random() * 2e-3)
                luck.shuffle(numbers)
                for number in numbers:
                    while lane.wait(number, luck.choice([0.0, 1e-4, PATIENCE])) == "waiting":
                        time.sleep(luck.random() * 1e-3)
                wanted = folded(xs, "max", [1.0] * size), xs[1], np.concatenate(xs)
                wrong += not all(map(same_bits, (most, sent, out), wanted))
            return wrong

        assert on_threads(size, work) == [0] * size


def test_a_mismatch_is_raised_where_it_is_waited_for_on_every_rank():
    with opened(3) as lanes:
        fine = [lane.barrier() for lane in lanes]
        bad = [
            lane.all_reduce(np.ones(3 + (rank == 2), np.float32), "sum", 1.0) for rank, lane in enumerate(lanes)
        ]
        later = [lane.barrier() for lane in lanes]

        def work(rank):
            assert lanes[rank].wait(fine[rank], PATIENCE) == "done"
            for number in (bad[rank], later[rank], bad[rank]):
                with pytest.raises(_core.Mismatch) as caught:
                    lanes[rank].wait(number, PATIENCE)
                said = "rank 2 asked for all_reduce(sum) of 4 float32, rank 0 for all_reduce(sum) of 3 float32"
                assert str(caught.value) == said

        on_threads(3, work)


def test_an_abort_ends_what_is_under_way_and_what_comes():
    with opened(2) as lanes:
        number = lanes[0].barrier()
        assert lanes[0].wait(number, 0.0) == "waiting"
        lanes[1].abort()
        assert lanes[0].wait(number, PATIENCE) == "aborted"
        assert lanes[1].wait(lanes[1].barrier(), PATIENCE) == "aborted"


def test_it_moves_while_others_come_and_not_before():
    with opened(3) as lanes:
        first = lanes[0].barrier()
        assert lanes[0].wait(first, 0.01) == "waiting"
        assert [lane.moved for lane in lanes] == [1, 0, 0]
        numbers = [lane.barrier() for lane in lanes[1:]]
        assert [lane.wait(number, PATIENCE) for lane, number in zip(lanes[1:], numbers, strict=True)] == [
            "done"
        ] * 2
        assert lanes[0].wait(first, PATIENCE) == "done"
        assert [lane.moved for lane in lanes] == [1, 1, 1]


def test_arrays_live_as_long_as_their_call():
    with opened(2) as lanes:
        numbers = [lane.all_reduce(np.full(300_000, 1.0), "sum", 1.0) for lane in lanes]
        out = [np.full(2, 1.0) for _ in lanes]
        after = [lane.all_reduce(x, "sum", 1.0) for lane, x in zip(lanes, out, strict=True)]
        on_threads(2, lambda rank: lanes[rank].wait(after[rank], PATIENCE))
        assert [x.tolist() for x in out] == [[2.0, 2.0]] * 2
        assert [lane.wait(number, 0.0) for lane, number in zip(lanes, numbers, strict=True)] == ["done"] * 2


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda lane: lane.all_reduce([1.0], "sum", 1.0), TypeError, "buf must be a numpy array of float32"),
        (lambda lane: lane.all_reduce(np.ones(3), "sum", 2.0), ValueError, "weight must be 1 unless op is 'mean'"),
        (lambda lane: lane.broadcast(np.ones(3), 2), ValueError, "root must be between 0 and 1, got 2"),
        (lambda lane: lane.wait(0, 1.0), ValueError, "rank 0 has started no call 0"),
        (lambda lane: lane.wait(0, -1.0), ValueError, "seconds must be at least 0"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_shared(call, error, sentence):
    with opened(2) as lanes:
        with pytest.raises(error, match=sentence):
            call(lanes[0])
        numbers = [lane.barrier() for lane in lanes]
        assert numbers == [0, 0]
        assert on_threads(2, lambda rank: lanes[rank].wait(0, PATIENCE)) == ["done"] * 2


def test_a_closed_lane_says_so():
    with opened(1) as (lane,):
        lane.close()
        with pytest.raises(ValueError, match="this HostLane is closed"):
            lane.barrier()
