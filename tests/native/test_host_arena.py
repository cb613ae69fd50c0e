"""HostArena: vectors that all ranks of a host map, collectives in place, and what is left when it is closed."""

import gc
import os
import signal
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tests.native.processes import PATIENCE, memory, result_of, started
from tests.native.threads import arrays, same_bits

from loosestep import _core
from loosestep.lowering import collectives

KB = 1 << 10
NEVER = 1 << 62
FORMS = {
    "in place": (0, [(0, 512 * KB)]),
    "copied": (NEVER, [(0, 512 * KB)]),
    "in small pieces": (NEVER, [(0, 128 * KB), (1 << 20, 4 * KB)]),
}
WEIGHTS = {"sum": [1.0] * 3, "max": [1.0] * 3, "mean": [3.0, 0.1, 7.0]}
LENGTHS = [0, 1, 5, 4099, (1 << 18) + 3]


@contextmanager
def arena_of(size):
    """Rank 0's arena, and the path by which others open it."""
    fd = _core.HostArena.make(size)
    arena = _core.HostArena(fd, size, 0, False)
    try:
        yield arena, f"/proc/{os.getpid()}/fd/{fd}"
    finally:
        arena.close()
        os.close(fd)


def placed(arena, values):
    """A copy of an array in the arena."""
    copy = arena.allocate(values.nbytes).view(values.dtype)
    copy[:] = values
    return copy


def on_ranks(size, work, *args):
    """work(host, rank, path of the arena, *args) on every rank; the results."""
    with (
        arena_of(size) as (arena, path),
        memory(size) as (place, host),
        started(size, work, place, path, *args) as ranks,
    ):
        mine = work(host, 0, arena, *args)
        return [mine, *(result_of(ranks[rank][1]) for rank in range(1, size))]


def opened(arena, size, rank):
    return _core.HostArena(arena, size, rank, False) if isinstance(arena, str) else arena


def folded(xs, op, weights):
    out = xs[0].copy()
    collectives.fold(op, [x.copy() for x in xs], out, weights)
    return out


def all_kinds(host, rank, arena):
    """What has other bits than the fold, by form."""
    size, wrong = host.size, []
    arena = opened(arena, size, rank)
    for name, form in FORMS.items():
        host.use(arena, *form, True)
        for dtype in (np.float32, np.float64):
            for length in LENGTHS:
                xs = arrays(size, length, dtype)
                for op, weights in WEIGHTS.items():
                    weights = weights[:size]
                    x, weight = placed(arena, xs[rank]), weights[rank]
                    assert host.all_reduce(x, op, weight, PATIENCE) == "done"
                    if not same_bits(x, folded(xs, op, weights)):
                        wrong.append((name, dtype.__name__, length, op))
                x, out = placed(arena, xs[rank]), np.empty(size * length, dtype)
                assert host.broadcast(x, size - 1, PATIENCE) == "done"
                assert host.all_gather(placed(arena, xs[rank]), out, PATIENCE) == "done"
                if not (same_bits(x, xs[-1]) and same_bits(out, np.concatenate(xs))):
                    wrong.append((name, dtype.__name__, length, "copies"))
    return wrong


@pytest.mark.parametrize("size", [2, 3])
def test_every_form_has_the_bits_of_a_left_fold(size):
    assert on_ranks(size, all_kinds) == [[]] * size


def some_elsewhere(host, rank, arena):
    """Sums where rank 1's vector is private; then one where nobody has a say; then one in place."""
    arena = opened(arena, host.size, rank)
    host.use(arena, 0, [(0, 512 * KB)], True)
    n = 300_000
    x = np.full(n, rank + 1.0) if rank == 1 else placed(arena, np.full(n, rank + 1.0))
    before = host.moved
    assert host.all_reduce(x, "sum", 1.0, PATIENCE) == "done"
    pieces = host.moved - before
    assert host.broadcast(x, 0, PATIENCE) == "done"
    y = placed(arena, x + rank)
    assert host.all_reduce(y, "mean", 0.0, PATIENCE) == "done"
    z, before = placed(arena, x), host.moved
    assert host.all_reduce(z[1:], "sum", 1.0, PATIENCE) == "done"
    return pieces, host.moved - before, set(x), set(y), z[0], set(z[1:])


def test_vectors_elsewhere_are_copied_as_before():
    first, second = on_ranks(2, some_elsewhere)
    assert first == (6, 2, {3.0}, {3.0}, 3.0, {6.0}), "an empty piece and five; two empty ones"
    assert second == (6, 2, {3.0}, {4.0}, 3.0, {6.0})


@pytest.mark.parametrize(
    ("op", "weights", "want"), [("sum", (1, 1), 3), ("mean", (1, 3), 1.75), ("mean", (0, 0), None)]
)
def test_a_rank_that_has_lost_its_core_is_not_waited_for(op, weights, want):
    """The second one has come and gone away again: the first does its share."""
    with arena_of(2) as (arena, path), memory(2) as (place, host):
        late, its = _core.Host(place, 2, 1, False), _core.HostArena(path, 2, 1, False)
        x, y = (placed(each, np.full(700_001, value)) for each, value in ((arena, 1.0), (its, 2.0)))
        for each, where in ((host, arena), (late, its)):
            each.use(where, 0, [(0, 512 * KB)], False)
        for _ in range(2):
            x[:], y[:] = 1, 2
            assert late.all_reduce(y, op, weights[1], 0.0) == "waiting"
            assert host.all_reduce(x, op, weights[0], PATIENCE if want else 0.0) == ("done" if want else "waiting")
            assert late.all_reduce(y, op, weights[1], PATIENCE) == "done"
            assert host.barrier(0.0) == "waiting" if want else host.all_reduce(x, op, 0.0, PATIENCE) == "done"
            assert [set(x), set(y)] == ([{want}] * 2 if want else [{1.0}, {2.0}])
            if want:
                assert late.barrier(PATIENCE) == host.barrier(PATIENCE) == "done"
        its.close()
        late.close()


def mismatched(host, rank, arena):
    arena = opened(arena, host.size, rank)
    host.use(arena, 0, [(0, 512 * KB)], True)
    x = arena.allocate(8 * (5000 + rank)).view(np.float64)
    try:
        host.all_reduce(x, "sum", 1.0, PATIENCE)
    except _core.Mismatch as error:
        return str(error)


def test_ranks_that_differ_are_told_before_anything_is_written():
    want = "rank 1 asked for all_reduce(sum) of 5001 float64, rank 0 for all_reduce(sum) of 5000 float64"
    assert on_ranks(2, mismatched) == [want] * 2


def dies(host, rank, path):
    """Takes part once, and is gone before the second."""
    arena = opened(path, host.size, rank)
    host.use(arena, 0, [(0, 512 * KB)], True)
    x = placed(arena, np.ones(1 << 20))
    assert host.all_reduce(x, "sum", 1.0, PATIENCE) == "done"
    os.kill(os.getpid(), signal.SIGKILL)


def test_who_waits_for_a_dead_rank_comes_back_in_time():
    with arena_of(2) as (arena, path), memory(2) as (place, host), started(2, dies, place, path) as ranks:
        host.use(arena, 0, [(0, 512 * KB)], True)
        x = placed(arena, np.ones(1 << 20))
        assert host.all_reduce(x, "sum", 1.0, PATIENCE) == "done"
        ranks[1][0].join(PATIENCE)
        assert host.all_reduce(x, "sum", 1.0, 0.05) == "waiting"
        host.abort()
        assert host.all_reduce(x, "sum", 1.0, PATIENCE) == "aborted"
        arena.close()
        assert set(x) == {2.0}


def mapped(address):
    return any(line.startswith(f"{address:x}-") for line in Path("/proc/self/maps").read_text().splitlines())


@pytest.mark.parametrize("size", [100 * KB, 5 << 20])
def test_close_makes_arrays_private_at_their_addresses(size):
    with arena_of(2) as (arena, path):
        other = _core.HostArena(path, 2, 1, False)
        x, y = (each.allocate(size) for each in (arena, other))
        x[:], y[:] = 3, 5
        part, address = x[10:20], x.ctypes.data
        assert [arena.holds(each) for each in (x, part, y, np.ones(3))] == [True, True, False, False]
        arena.close()
        assert (arena.holds(x), arena.allocate(10)) == (False, None)
        x[:5] = 7
        assert (x.ctypes.data, part.tolist(), set(x[:5]), set(x[5:])) == (address, [3] * 10, {7}, {3})
        arena.close()
        other.close()
        assert set(y) == {5}
        start = address // 4096 * 4096
        del x, part
        gc.collect()
        assert not mapped(start)


def test_memory_is_given_back_and_used_again():
    with arena_of(1) as (arena, path):
        blocks = lambda: os.stat(path).st_blocks * 512  # noqa: E731
        made = [arena.allocate(3 << 20) for _ in range(4)]
        addresses = {each.ctypes.data // 4096 for each in made}
        for each in made:
            each[:] = 255
        held = blocks()
        assert held >= 12 << 20
        del made, each
        gc.collect()
        assert blocks() == 0
        again = [arena.allocate(3 << 20) for _ in range(4)]
        assert not any(each.any() for each in again), "zeros"
        assert min(each.ctypes.data // 4096 for each in again) < max(addresses)


def child(work):
    """How a forked child ends that does this."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


@pytest.mark.parametrize("size", [100 * KB, 3 << 20])
def test_a_forked_child_reads_it_and_writes_a_copy(size):
    with arena_of(2) as (arena, _):
        x = arena.allocate(size)
        x[:] = 3

        def work():
            assert set(x) == {3}
            x[:] = 9
            assert (set(x), arena.allocate(10), arena.holds(x)) == ({9}, None, False)
            arena.close()

        assert child(work) == 0
        assert (set(x), arena.holds(x)) == ({3}, True)


def test_what_is_wrong_is_refused():
    with arena_of(2) as (arena, path), memory(2) as (_, host):
        with pytest.raises(ValueError, match="rank must be between 0 and 1, got 2"):
            _core.HostArena(path, 2, 2, False)
        with pytest.raises(OSError, match="cannot be opened"):
            _core.HostArena("/nowhere/arena", 2, 0, False)
        with pytest.raises(ValueError, match="pieces must be multiples of 4096 up to 524288 bytes, got 1048576"):
            host.use(arena, 0, [(0, 1 << 20)], True)
        with pytest.raises(ValueError, match="pieces must begin with one for calls from 0 bytes on"):
            host.use(None, 0, [(5, 4096)], True)
        assert arena.allocate(1 << 60) is None
