"""Host: every collective between real processes, bit for bit, in uneven time and in pieces of time."""

import os
import random
import time

import numpy as np
import pytest
from tests.native.processes import PATIENCE, memory, on_processes
from tests.native.threads import arrays, on_threads, same_bits

from loosestep import _core
from loosestep.lowering import collectives

DTYPES = [np.float32, np.float64]
OPS = ["sum", "mean", "max", "min"]
LENGTHS = [0, 1, 5, 4099, (1 << 20) + 3]
WEIGHTS = {"even": [2.0] * 8, "uneven": [1, 2, 3.3, 0.1, 5, 7, 2, 1], "zeros": [0, 0, 1.5, 0, 3, 0.1, 0, 1]}


def folded(xs, op, weights):
    """What lowered collectives make of it, by the rule that all transports share."""
    out = xs[0].copy()
    if len(xs) > 1:
        collectives.fold(op, [x.copy() for x in xs], out, weights)
    return out


def all_reduces(host, rank, lengths):
    wrong = []
    for dtype in DTYPES:
        for length in lengths:
            xs = arrays(host.size, length, dtype)
            for op in OPS:
                x, want = xs[rank].copy(), folded(xs, op, [1.0] * host.size)
                assert host.all_reduce(x, op, 1.0, PATIENCE) == "done"
                if not same_bits(x, want):
                    wrong.append((dtype.__name__, length, op))
    return wrong


@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
def test_all_reduce_has_the_bits_of_the_lowered_one(size):
    lengths = LENGTHS if size < 8 else [0, 1, 5, 4099, 70_001]
    assert on_processes(size, all_reduces, lengths) == [[]] * size


def late_by_turns(host, rank, turns):
    """Sums of 20 pieces in small pieces of time: who is early goes ahead of who is late."""
    xs = [np.arange(20 * 65536, dtype=np.float64) % 1001 * (r + 1) for r in range(host.size)]
    for turn in range(turns):
        x, luck = xs[rank].copy(), random.Random(turn * 10 + rank)
        while host.all_reduce(x, "sum", 1.0, luck.random() * 1e-4) == "waiting":
            time.sleep(luck.random() * 1e-3)
        if not same_bits(x, xs[0] + xs[1]):
            return turn
    return "fine"


def test_two_ranks_in_uneven_time_have_the_same_bits():
    assert on_processes(2, late_by_turns, 40) == ["fine"] * 2


def weighted_means(host, rank, lengths):
    wrong = []
    for dtype in DTYPES:
        for name, all_weights in WEIGHTS.items():
            weights = all_weights[: host.size]
            for length in lengths:
                xs = arrays(host.size, length, dtype)
                mine, want = xs[rank].copy(), xs[rank].copy()
                if any(weights):
                    want = folded(xs, "mean", weights)
                if not weights[rank]:
                    mine[:] = np.nan  # a worker without samples has no say, not even this one
                if not any(weights):
                    want = mine.copy()
                assert host.all_reduce(mine, "mean", weights[rank], PATIENCE) == "done"
                if not same_bits(mine, want):
                    wrong.append((dtype.__name__, length, name))
    return wrong


@pytest.mark.parametrize("size", [2, 3, 4])
def test_weighted_means_leave_out_whoever_weighs_nothing(size):
    assert on_processes(size, weighted_means, [1, 5, 4099, 300_001]) == [[]] * size


def others(host, rank):
    """Broadcasts from every root, and gathers from outside and from inside the result."""
    wrong = []
    for dtype in DTYPES:
        for length in [0, 1, 5, 4099, 300_001]:
            xs = arrays(host.size, length, dtype)
            for root in range(host.size):
                x = xs[rank].copy()
                assert host.broadcast(x, root, PATIENCE) == "done"
                wrong += [] if same_bits(x, xs[root]) else [("broadcast", length, root)]
            out = np.full(length * host.size, -1, dtype)
            assert host.all_gather(xs[rank], out, PATIENCE) == "done"
            wrong += [] if same_bits(out, np.concatenate(xs)) else [("all_gather", length)]
            out[:] = -1
            place = out[length * rank : length * (rank + 1)]
            place[:] = xs[rank]
            assert host.all_gather(place, out, PATIENCE) == "done"
            wrong += [] if same_bits(out, np.concatenate(xs)) else [("all_gather in place", length)]
    return wrong


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_broadcast_and_all_gather(size):
    assert on_processes(size, others) == [[]] * size


def barriers(host, rank, turns):
    times = []
    for turn in range(turns):
        time.sleep(random.Random(rank * 100 + turn).random() * 2e-3)
        before = time.monotonic()
        assert host.barrier(PATIENCE) == "done"
        times.append((before, time.monotonic()))
    return times


def test_nobody_leaves_a_barrier_before_all_have_come():
    times = np.array(on_processes(4, barriers, 50))  # rank, turn, (came, left): one clock for the host
    assert (times[:, :, 0].max(axis=0) <= times[:, :, 1].min(axis=0)).all()


def uneven(host, rank, rounds):
    """Everything in one sequence, in pieces of time and with naps, as a busy program would call it."""
    nap, common, wrong = random.Random(rank), random.Random(99), 0
    for round_ in range(rounds):
        length = common.choice([0, 3, 100, 5000, 200_000])
        xs = arrays(host.size, length, seed=round_)
        x, out = xs[rank].copy(), np.empty(length * host.size, np.float32)
        calls = [
            lambda seconds: host.all_reduce(x, "sum", 1.0, seconds),  # noqa: B023
            lambda seconds: host.all_gather(x, out, seconds),  # noqa: B023
            lambda seconds: host.barrier(seconds),
        ]
        for call in calls:
            while call(nap.choice([0.0, 1e-5, 1e-3, PATIENCE])) == "waiting":
                time.sleep(nap.random() * 1e-3)
        want = folded(xs, "sum", [1.0] * host.size)
        wrong += not (same_bits(x, want) and same_bits(out, np.tile(want, host.size)))
    return wrong


@pytest.mark.parametrize("size", [2, 3, 5])
def test_a_call_is_left_and_gone_on_with_at_any_point(size):
    assert on_processes(size, uneven, 60) == [0] * size


@pytest.mark.parametrize("op", OPS)
def test_a_nan_on_any_rank_shows(op):
    for size in (2, 3):
        with opened(size) as hosts:
            for odd in range(size):
                xs = arrays(size, 40_000)
                xs[odd][7] = np.nan
                on_threads(size, lambda rank: hosts[rank].all_reduce(xs[rank], op, 1.0, PATIENCE))  # noqa: B023
                assert all(np.isnan(x[7]) and not np.isnan(x[8]) for x in xs)


class opened:  # noqa: N801
    """All ranks in this process, a mapping each: what a test of sentences needs."""

    def __init__(self, size):
        self.size, self.memory = size, memory(size)

    def __enter__(self):
        path, host = self.memory.__enter__()
        self.hosts = [host, *(_core.Host(path, self.size, rank, False) for rank in range(1, self.size))]
        return self.hosts

    def __exit__(self, *error):
        for host in self.hosts:
            host.close()
        self.memory.__exit__(*error)


X = {n: np.ones(n, np.float32) for n in (3, 4, 300_000)}
DISAGREEMENTS = [
    (
        lambda h: h.all_reduce(X[3], "sum", 1.0, 9),
        lambda h: h.barrier(9),
        "all_reduce(sum) of 3 float32",
        "barrier",
    ),
    (
        lambda h: h.all_reduce(X[3].copy(), "sum", 1.0, 9),
        lambda h: h.all_reduce(X[4].copy(), "sum", 1.0, 9),
        "all_reduce(sum) of 3 float32",
        "all_reduce(sum) of 4 float32",
    ),
    (
        lambda h: h.all_reduce(X[3].copy(), "sum", 1.0, 9),
        lambda h: h.all_reduce(np.ones(300_000), "mean", 1.0, 9),
        "all_reduce(sum) of 3 float32",
        "all_reduce(mean) of 300000 float64",
    ),
    (
        lambda h: h.broadcast(X[300_000].copy(), 0, 9),
        lambda h: h.broadcast(X[300_000].copy(), 1, 9),
        "broadcast(root 0) of 300000 float32",
        "broadcast(root 1) of 300000 float32",
    ),
    (
        lambda h: h.all_gather(X[4], np.empty(12, np.float32), 9),
        lambda h: h.all_gather(np.ones(4), np.empty(12), 9),
        "all_gather of 4 float32",
        "all_gather of 4 float64",
    ),
]


@pytest.mark.parametrize(("one", "other", "said", "other_said"), DISAGREEMENTS)
def test_a_mismatch_is_an_error_on_every_rank_and_stays_one(one, other, said, other_said):
    sentence = f"rank 2 asked for {other_said}, rank 0 for {said}"
    with opened(3) as hosts:

        def work(rank):
            for _ in range(2):
                with pytest.raises(_core.Mismatch) as caught:
                    (other if rank == 2 else one)(hosts[rank])
                assert str(caught.value) == sentence
            with pytest.raises(_core.Mismatch):
                hosts[rank].barrier(0)

        on_threads(3, work)


def test_a_call_that_is_not_done_is_repeated_and_another_one_is_refused():
    with opened(3) as hosts:
        x = np.ones(5, np.float32)
        assert hosts[1].all_reduce(x, "sum", 1.0, 0.0) == "waiting"
        assert hosts[1].all_reduce(x, "sum", 1.0, 0.01) == "waiting"
        with pytest.raises(RuntimeError, match="rank 1 is in all_reduce\\(sum\\) of 5 float32, which is not done"):
            hosts[1].barrier(0)
        with pytest.raises(RuntimeError, match="the same call must be repeated"):
            hosts[1].all_reduce(x.copy(), "sum", 1.0, 0)
        assert hosts[0].all_reduce(x.copy(), "sum", 1.0, 0) == "waiting"
        assert hosts[2].all_reduce(x.copy(), "sum", 1.0, 0) == "done"
        assert hosts[1].all_reduce(x, "sum", 1.0, 0) == "done"
        assert x.tolist() == [3] * 5


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda h: h.all_reduce([1.0], "sum", 1.0, 1), TypeError, "buf must be a numpy array of float32"),
        (lambda h: h.all_reduce(X[3], "product", 1.0, 1), ValueError, "op must be 'sum', 'mean', 'max' or 'min'"),
        (lambda h: h.all_reduce(X[3], "sum", 2.0, 1), ValueError, "weight must be 1 unless op is 'mean'"),
        (
            lambda h: h.all_reduce(X[3], "mean", float("nan"), 1),
            ValueError,
            "weight must be finite and at least 0",
        ),
        (lambda h: h.all_reduce(X[4][::2], "sum", 1.0, 1), ValueError, "C-contiguous"),
        (lambda h: h.barrier(-1.0), ValueError, "seconds must be at least 0"),
        (lambda h: h.barrier(float("nan")), ValueError, "seconds must be at least 0"),
        (lambda h: h.broadcast(X[3], 2, 1), ValueError, "root must be between 0 and 1, got 2"),
        (lambda h: h.all_gather(X[3], X[4], 1), ValueError, "out must be of 6 elements"),
        (lambda h: h.beat_age(2), ValueError, "rank must be between 0 and 1, got 2"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_shared(call, error, sentence):
    with opened(2) as hosts:
        with pytest.raises(error, match=sentence):
            call(hosts[0])
        on_threads(2, lambda rank: hosts[rank].barrier(PATIENCE))


def test_notes_are_read_whole_while_they_are_written():
    with opened(2) as hosts:
        texts = {"": 0, "a" * 160: 0, "b" * 160: 0}

        def work(rank):
            if rank == 0:
                for turn in range(20_000):
                    hosts[0].note("ab"[turn % 2] * 160)
                hosts[0].note("over")
            else:
                while (text := hosts[1].noted(0)) != "over":
                    texts[text] += 1

        on_threads(2, work)
        hosts[1].note("é" * 100)
        assert hosts[0].noted(1) == "é" * 80
        hosts[1].note("x" + "é" * 100)
        assert hosts[0].noted(1) == "x" + "é" * 79
        assert hosts[0].noted(0) == "over"


def test_memory_is_reserved_and_has_its_size():
    size = _core.Host.needed(3)
    fd = _core.Host.make(size)
    try:
        found = os.fstat(fd)
        assert found.st_size == size
        assert found.st_blocks * 512 >= size
    finally:
        os.close(fd)
