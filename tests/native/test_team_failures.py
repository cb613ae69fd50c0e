"""Team: what happens when ranks disagree, when one gives up, and when an argument is wrong."""

import gc
import threading
import time
import weakref

import numpy as np
import pytest
from tests.native.threads import PATIENCE, arrays, done, fold, on_threads, same_bits

from loosestep import _core

F32, F64 = np.float32, np.float64


def reduce_post(length=1000, op="mean", dtype=F32):
    return lambda team, rank: team.post_all_reduce(rank, np.ones(length, dtype), op)


def cast_post(root):
    return lambda team, rank: team.post_broadcast(rank, np.ones(1000, F32), root)


def gather_post(length, size=3):
    return lambda team, rank: team.post_all_gather(rank, np.ones(length), np.ones(length * size))


def barrier_post(team, rank):
    return team.post_barrier(rank)


def ring_post(length=1000, size=3):
    def post(team, rank):
        before, after = (rank - 1) % size, (rank + 1) % size
        return team.post_mix(rank, np.ones(length), np.ones(length), [rank, before], [0.5, 0.5], [after])

    return post


MISMATCHES = [
    (reduce_post(), reduce_post(999), "all_reduce(mean) of 999 float32", "all_reduce(mean) of 1000 float32"),
    (reduce_post(), reduce_post(dtype=F64), "(mean) of 1000 float64", "(mean) of 1000 float32"),
    (reduce_post(), reduce_post(op="sum"), "(sum) of 1000 float32", "(mean) of 1000 float32"),
    (reduce_post(), barrier_post, "barrier", "all_reduce(mean) of 1000 float32"),
    (reduce_post(), cast_post(0), "broadcast(root 0) of 1000 float32", "all_reduce(mean) of 1000 float32"),
    (cast_post(0), cast_post(1), "broadcast(root 1) of 1000 float32", "broadcast(root 0) of 1000 float32"),
    (gather_post(7), gather_post(8), "all_gather of 8 float64", "all_gather of 7 float64"),
    (gather_post(10**6), gather_post(1), "all_gather of 1 float64", "all_gather of 1000000 float64"),
    (ring_post(), ring_post(999), "mix of 999 float64", "mix of 1000 float64"),
    (ring_post(), reduce_post(), "all_reduce(mean) of 1000 float32", "mix of 1000 float64"),
]


@pytest.mark.parametrize("odd", [0, 2])
@pytest.mark.parametrize(("common", "other", "odd_words", "words"), MISMATCHES)
def test_every_rank_hears_who_asked_for_what(common, other, odd_words, words, odd):
    team = _core.Team(3)

    def work(rank):
        done(team, rank, team.post_barrier(rank))
        time.sleep(rank * 2e-3)
        ticket = (other if rank == odd else common)(team, rank)
        with pytest.raises(_core.Mismatch) as caught:
            team.complete(rank, ticket, PATIENCE)
        with pytest.raises(_core.Mismatch):
            team.complete(rank, team.post_barrier(rank), PATIENCE)
        return str(caught.value)

    said = set(on_threads(3, work))
    assert len(said) == 1
    sentence = said.pop()
    assert f"rank {odd}" in sentence
    assert odd_words in sentence
    assert words in sentence


def test_mismatch_sentence_word_for_word():
    team = _core.Team(3)
    tickets = [team.post_all_reduce(r, np.ones(999 if r == 2 else 1000, F32), "mean") for r in range(3)]
    sentence = "rank 2 asked for all_reduce(mean) of 999 float32, rank 0 for all_reduce(mean) of 1000 float32"
    for rank in range(3):
        with pytest.raises(_core.Mismatch, match=rf"^{sentence.replace('(', '.').replace(')', '.')}$"):
            team.complete(rank, tickets[rank], 1.0)
    assert issubclass(_core.Mismatch, RuntimeError)


def test_tickets_before_a_mismatch_can_be_completed():
    team, xs = _core.Team(2), arrays(2, 10)
    expected = fold(xs)
    first = [team.post_all_reduce(rank, xs[rank]) for rank in range(2)]
    team.post_barrier(0), team.post_all_reduce(1, np.ones(3))
    done(team, 0, first[0])
    done(team, 1, first[1])
    assert same_bits(xs[0], expected)
    with pytest.raises(_core.Mismatch):
        team.complete(0, 1, 1.0)


def test_an_edge_that_one_side_does_not_know_is_a_mismatch():
    for listed, sentence in [([], "does not name it as a reader"), ([1], "in a mix that does not read it")]:
        team = _core.Team(2)
        x, y = np.ones(4), np.ones(4)
        team.post_mix(0, x, np.ones(4), [0], [1.0], listed)
        team.post_mix(1, y, np.ones(4), [1] if listed else [1, 0], [1.0] if listed else [0.5, 0.5], [])
        with pytest.raises(_core.Mismatch, match=sentence):
            team.complete(1 - len(listed), 0, 5.0)


def test_two_ranks_may_not_give_the_same_memory():
    team, x = _core.Team(3), np.ones(100)
    parts = [x[:60], np.ones(60), x[40:]]
    tickets = [team.post_all_reduce(rank, parts[rank]) for rank in range(3)]
    with pytest.raises(_core.Mismatch, match="ranks 0 and 2 gave the same memory to"):
        team.complete(1, tickets[1], 1.0)


def test_abort_ends_every_wait_at_once():
    team = _core.Team(4)

    def work(rank):
        if rank == 3:
            time.sleep(0.05)
            team.abort()
            return time.perf_counter()
        ticket = team.post_all_reduce(rank, np.ones(100_000))
        assert team.complete(rank, ticket, PATIENCE) == "aborted"
        left = time.perf_counter()
        for _ in range(100):  # harmless, and never too many
            assert team.complete(rank, team.post_all_reduce(rank, np.ones(10)), PATIENCE) == "aborted"
        return left

    times = on_threads(4, work)
    assert max(times) - times[3] < 0.5
    assert team.complete(3, team.post_barrier(3), PATIENCE) == "aborted"


def test_arrays_of_an_aborted_team_live_as_long_as_it_does():
    team, buf = _core.Team(2), np.ones(10)
    watch = weakref.ref(buf)
    team.post_all_reduce(0, buf)
    team.abort()
    for _ in range(200):
        team.post_all_reduce(0, np.ones(10))
    del buf
    gc.collect()
    assert watch() is not None
    del team
    assert watch() is None


def test_abort_during_work_does_not_crash():
    for attempt in range(20):
        team = _core.Team(3)

        def work(rank):
            for step in range(1000):
                if rank == 2 and step == attempt:  # noqa: B023
                    team.abort()  # noqa: B023
                if team.complete(rank, team.post_all_reduce(rank, np.ones(100_000)), PATIENCE) == "aborted":  # noqa: B023
                    return

        on_threads(3, work)


def test_two_threads_of_one_rank_are_refused():
    team = _core.Team(2)
    ticket = team.post_barrier(0)
    waiting = threading.Thread(target=lambda: team.complete(0, ticket, PATIENCE))
    waiting.start()
    time.sleep(0.05)
    with pytest.raises(RuntimeError, match="rank 0 is already in a call on another thread"):
        team.post_barrier(0)
    team.abort()
    waiting.join()


def read_only(x):
    x.flags.writeable = False
    return x


BAD_BUFFERS = [
    ([1.0, 2.0], TypeError, "buf must be a numpy array of float32 or float64, got list"),
    (np.ones(3, int), TypeError, "buf must be a numpy array of float32 or float64, got int64"),
    (np.ones(3, np.float16), TypeError, "got float16"),
    (np.ones(3, ">f4"), TypeError, "got >f4"),
    (np.ones(6)[::2], ValueError, "buf must be C-contiguous, got a strided array"),
    (np.ones((2, 3)).T, ValueError, "buf must be C-contiguous"),
    (read_only(np.ones(3)), ValueError, "buf must be writable, got a read-only array"),
    (np.ones(17, np.uint8)[1:].view(F64), ValueError, "buf must be aligned"),
]


@pytest.mark.parametrize(("buf", "kind", "sentence"), BAD_BUFFERS)
def test_arrays_are_never_converted(buf, kind, sentence):
    team = _core.Team(2)
    with pytest.raises(kind, match=sentence):
        team.post_all_reduce(0, buf)
    with pytest.raises(kind, match=sentence):
        team.post_mix(0, buf, np.ones(3), [0], [1.0], [])
    assert team.missing(0) == [0, 1]


def bad_calls():
    x, y = np.ones(4), np.ones(4)
    out = np.ones(8)
    nan = float("nan")
    return [
        (lambda t: t.post_all_reduce(2, x), "rank must be between 0 and 1, got 2"),
        (lambda t: t.post_all_reduce(0, x, "prod"), "op must be 'sum', 'mean', 'max' or 'min', got 'prod'"),
        (lambda t: t.post_all_reduce(0, x, "mean", -1), "weight must be finite and at least 0"),
        (lambda t: t.post_all_reduce(0, x, "mean", nan), "weight must be finite"),
        (lambda t: t.post_all_reduce(0, np.ones(4, F32), "mean", 1e39), "weight must be finite"),
        (lambda t: t.post_all_reduce(0, x, "sum", 2), "weight must be 1 unless op is 'mean'"),
        (lambda t: t.post_broadcast(0, x, -1), "root must be between 0 and 1, got -1"),
        (lambda t: t.post_all_gather(0, x, np.ones(7)), "out must be of 8 elements"),
        (lambda t: t.post_all_gather(0, out[4:], out), "piece must be outside out"),
        (lambda t: t.post_mix(0, x, np.ones(3), [0], [1], []), "scratch must be of 4 elements"),
        (lambda t: t.post_mix(0, x, x, [0], [1], []), "scratch must be outside buf"),
        (lambda t: t.post_mix(0, x, y, [], [], []), "ranks must be at least one rank"),
        (lambda t: t.post_mix(0, x, y, [0, 1], [1], []), "weights must be as many as ranks"),
        (lambda t: t.post_mix(0, x, y, [0, 0], [1, 1], []), "ranks must be different ranks, got 0 twice"),
        (lambda t: t.post_mix(0, x, y, [0], [nan], []), "weights must be finite"),
        (lambda t: t.post_mix(0, x, y, [0], [1], [5]), "readers must be between 0 and 1, got 5"),
        (lambda t: t.complete(0, 0, 1.0), "rank 0 has posted no ticket 0"),
        (lambda t: t.complete(0, t.post_barrier(0), nan), "seconds must be at least 0"),
        (lambda t: _core.Team(0), "size must be at least 1, got 0"),
        (lambda t: _core.Team(2, 0), "outstanding must be at least 1, got 0"),
    ]


@pytest.mark.parametrize(("call", "sentence"), bad_calls())
def test_bad_arguments_are_named(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(_core.Team(2))


def test_a_dtype_that_differs_within_one_post_is_a_type_error():
    with pytest.raises(TypeError, match="out must be float32 like piece, got float64"):
        _core.Team(2).post_all_gather(0, np.ones(4, F32), np.ones(8))
    with pytest.raises(TypeError, match="scratch must be float64 like buf, got float32"):
        _core.Team(2).post_mix(0, np.ones(4), np.ones(4, F32), [0], [1.0], [])
