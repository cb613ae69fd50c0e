"""Team: every collective against numpy bit for bit, in uneven time, overlapping, and within deadlines."""

import random
import time

import numpy as np
import pytest
from tests.native.threads import arrays, done, fold, on_threads, same_bits

from loosestep import _core

SIZES = [1, 2, 3, 4, 8]
DTYPES = [np.float32, np.float64]
LENGTHS = [0, 1, 17, 1000, 32 * 1024, 32 * 1024 + 1, 100_003]


def weighted_mean(xs, weights):
    total, mass = None, None
    for x, w in zip(xs, weights, strict=True):
        w = x.dtype.type(w)
        if w != 0:
            total = w * x if total is None else total + w * x
            mass = w if mass is None else mass + w
    return total / mass


def mix_of(xs, ranks, weights):
    total = xs[ranks[0]].dtype.type(weights[0]) * xs[ranks[0]]
    for rank, weight in zip(ranks[1:], weights[1:], strict=True):
        total = total + xs[rank].dtype.type(weight) * xs[rank]
    return total


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ["sum", "mean", "max", "min"])
@pytest.mark.parametrize("size", SIZES)
def test_all_reduce_is_a_left_fold_in_rank_order(size, op, dtype):
    for length in LENGTHS:
        team, xs = _core.Team(size), arrays(size, length, dtype)
        expected = fold(xs, op)
        on_threads(size, lambda rank: done(team, rank, team.post_all_reduce(rank, xs[rank], op)))  # noqa: B023
        assert all(same_bits(x, expected) for x in xs)


@pytest.mark.parametrize("op", ["max", "min"])
def test_a_nan_on_any_rank_shows_in_max_and_min(op):
    for odd in range(3):
        team, xs = _core.Team(3), arrays(3, 40)
        xs[odd][7] = np.nan
        on_threads(3, lambda rank: done(team, rank, team.post_all_reduce(rank, xs[rank], op)))  # noqa: B023
        assert all(np.isnan(x[7]) and not np.isnan(x[8]) for x in xs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weights", [[1, 2, 3.3], [0, 0.1, 5], [0, 0, 0.7], [64, 64, 17]])
def test_weighted_mean(weights, dtype):
    team, xs = _core.Team(3), arrays(3, 40_000, dtype)
    for rank in range(3):
        if weights[rank] == 0:
            xs[rank][:] = np.nan  # a worker without samples has no say, not even this one
    expected = weighted_mean(xs, weights)
    on_threads(3, lambda r: done(team, r, team.post_all_reduce(r, xs[r], "mean", weights[r])))
    assert all(same_bits(x, expected) for x in xs)


def test_equal_weights_are_the_plain_mean_and_no_weight_changes_nothing():
    for weight in (0.3, 0.0):
        team, xs = _core.Team(3), arrays(3, 1000)
        before, mean = [x.copy() for x in xs], fold(xs, "mean")
        on_threads(3, lambda r: done(team, r, team.post_all_reduce(r, xs[r], "mean", weight)))  # noqa: B023
        assert all(same_bits(x, mean if weight else b) for x, b in zip(xs, before, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_broadcast_and_all_gather(size, dtype):
    for length in LENGTHS:
        root = length % size
        team, xs = _core.Team(size), arrays(size, length, dtype)
        pieces, outs = [x.copy() for x in xs], [np.empty(size * length, dtype) for _ in xs]

        def work(rank):
            cast = team.post_broadcast(rank, xs[rank], root)  # noqa: B023
            gather = team.post_all_gather(rank, pieces[rank], outs[rank])  # noqa: B023
            done(team, rank, gather)  # noqa: B023
            done(team, rank, cast)  # noqa: B023

        on_threads(size, work)
        assert all(same_bits(x, pieces[root]) for x in xs)
        assert all(same_bits(out, np.concatenate(pieces)) for out in outs)


def test_all_gather_in_place_and_a_read_only_root():
    team, outs = _core.Team(2), [np.zeros(6), np.zeros(6)]
    frozen = np.arange(4.0)
    frozen.flags.writeable = False
    casts = [frozen, np.zeros(4)]

    def work(rank):
        piece = outs[rank][3 * rank : 3 * rank + 3]
        piece[:] = rank + 1
        done(team, rank, team.post_all_gather(rank, piece, outs[rank]))
        done(team, rank, team.post_broadcast(rank, casts[rank], 0))

    on_threads(2, work)
    assert all(out.tolist() == [1, 1, 1, 2, 2, 2] for out in outs)
    assert casts[1].tolist() == [0, 1, 2, 3]


def test_nobody_leaves_a_barrier_before_all_have_come():
    team, arrived = _core.Team(4), []

    def work(rank):
        for turn in range(20):
            time.sleep(random.Random(rank * 100 + turn).random() * 2e-3)
            arrived.append(turn)
            done(team, rank, team.post_barrier(rank))
            assert arrived.count(turn) == 4

    on_threads(4, work)


def neighbours(rank, size, graph):
    """(ranks, weights, readers) of one rank in a ring or in a complete graph."""
    if graph == "complete":
        return list(range(size)), [1 / size + 0.01 * k for k in range(size)], list(range(size))
    ranks = sorted({rank, (rank - 1) % size, (rank + 1) % size})
    return ranks, [0.5 if r == rank else 0.3 for r in ranks], [r for r in ranks if r != rank]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("graph", ["ring", "complete"])
@pytest.mark.parametrize("size", SIZES)
def test_mixes_follow_numpy_for_many_uneven_rounds(size, graph, dtype):
    rounds, length = 12, 33_000
    team, start = _core.Team(size, 4), arrays(size, length, dtype)
    xs, model = [x.copy() for x in start], start
    for _ in range(rounds):
        model = [mix_of(model, *neighbours(rank, size, graph)[:2]) for rank in range(size)]

    def work(rank):
        dice, scratch = random.Random(rank), np.empty(length, dtype)
        ranks, weights, readers = neighbours(rank, size, graph)
        for _ in range(rounds):
            time.sleep(dice.random() * 1e-3)
            ticket = team.post_mix(rank, xs[rank], scratch, ranks, weights, readers)
            time.sleep(dice.random() * 1e-3)
            while team.complete(rank, ticket, dice.choice([0.0, 1e-4, 10.0])) == "waiting":
                pass

    on_threads(size, work)
    assert all(same_bits(x, m) for x, m in zip(xs, model, strict=True))


def test_a_mix_waits_for_its_neighbours_only_and_leaves_its_buffer_alone_until_complete():
    team, xs, scratch = _core.Team(3), arrays(3, 10), np.empty((3, 10), np.float32)
    before = [x.copy() for x in xs]
    tickets = [team.post_mix(r, xs[r], scratch[r], [r, 1 - r], [0.5, 0.5], [1 - r]) for r in range(2)]
    assert team.missing(tickets[0]) == [2]
    assert team.complete(0, tickets[0], 0.01) == "waiting"  # rank 1 has not read yet
    assert same_bits(xs[0], before[0])
    assert team.complete(1, tickets[1], 1.0) == "done"  # rank 0 has
    assert same_bits(xs[0], before[0])
    assert team.complete(0, tickets[0], 1.0) == "done"
    assert same_bits(xs[0], mix_of(before, [0, 1], [0.5, 0.5]))


@pytest.mark.parametrize("size", SIZES)
def test_many_overlapping_tickets_complete_in_order_under_random_delays(size):
    rounds, window, length = 60, 8, 3000
    team = _core.Team(size, window)
    starts = [arrays(size, length, seed=round_) for round_ in range(rounds)]
    bufs = [[x.copy() for x in xs] for xs in starts]

    def work(rank):
        dice, tickets = random.Random(rank), []
        for round_ in range(rounds):
            if len(tickets) == window:
                last = dice.randrange(window)
                done(team, rank, tickets[last])  # and with it all earlier ones
                del tickets[: last + 1]
            tickets.append(team.post_all_reduce(rank, bufs[round_][rank], "mean"))
            if dice.random() < 0.2:
                time.sleep(dice.random() * 1e-3)
        done(team, rank, tickets[-1])

    on_threads(size, work)
    for start, xs in zip(starts, bufs, strict=True):
        expected = fold(start, "mean")
        assert all(same_bits(x, expected) for x in xs)


def test_nobody_needs_another_rank_to_call_complete():
    team, xs = _core.Team(3), arrays(3, 200_000)
    expected = fold(xs)
    tickets = [team.post_all_reduce(rank, xs[rank]) for rank in range(3)]
    assert team.complete(1, tickets[1], 5.0) == "done"
    assert all(same_bits(x, expected) for x in xs)


def test_too_many_tickets_is_said():
    team, buf = _core.Team(2, outstanding=3), np.zeros(4)
    for _ in range(3):
        team.post_all_reduce(0, buf)
    with pytest.raises(RuntimeError, match="rank 0 has 3 uncompleted tickets"):
        team.post_all_reduce(0, buf)
    for _ in range(3):
        team.post_all_reduce(1, np.zeros(4))
    done(team, 0, 0)
    assert team.post_all_reduce(0, buf) == 3


def test_deadlines_are_honoured_and_waiting_can_go_on():
    team, xs = _core.Team(2), arrays(2, 10)
    ticket = team.post_all_reduce(0, xs[0])
    for seconds in (0.0, 0.03, 0.1):
        start = time.perf_counter()
        assert team.complete(0, ticket, seconds) == "waiting"
        assert seconds <= time.perf_counter() - start < seconds + 0.2
    assert team.missing(ticket) == [1]
    team.post_all_reduce(1, xs[1])
    assert team.missing(ticket) == []
    done(team, 0, ticket)


def test_a_sleeper_is_woken_promptly():
    team, woken = _core.Team(2), []

    def work(rank):
        for _ in range(10):
            if rank == 1:
                time.sleep(0.02)
                woken.append(-time.perf_counter())
            done(team, rank, team.post_barrier(rank))
            if rank == 0:
                woken[-1] += time.perf_counter()
            done(team, rank, team.post_barrier(rank))

    on_threads(2, work)
    assert sorted(woken)[len(woken) // 2] < 0.01
