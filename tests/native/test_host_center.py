"""HostCenter: nothing is lost between processes, and whoever dies or stops inside it is an error, not a hang."""

import os
import signal
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from tests.native.processes import PATIENCE, SERVER, result_of
from tests.native.threads import arrays, same_bits

from loosestep import _core

DTYPES = [np.float32, np.float64]


def add(center, delta, rank=0):
    return center.push("axpy", (), (delta,), (1.0,), rank)


@contextmanager
def center_of(initial):
    """A center with these values, and what another process opens it with."""
    name = initial.dtype.name
    fd = _core.Host.make(_core.HostCenter.needed(initial.size, name))
    center = _core.HostCenter(fd, initial.size, name, True, initial)
    try:
        yield center, (f"/proc/{os.getpid()}/fd/{fd}", initial.size, name, False)
    finally:
        center.close()
        os.close(fd)


@contextmanager
def process(work, *args):
    pipe, theirs = SERVER.Pipe()
    child = SERVER.Process(target=serve, args=(theirs, work, args))
    child.start()
    try:
        yield child, pipe
    finally:
        child.kill()
        child.join()


def serve(pipe, work, args):
    pipe.send(("fine", "started"))
    pipe.send(("fine", work(*args)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0, 1, 5, 4096, 4097, 100_003])
def test_it_has_the_bits_of_the_center_of_threads(size, dtype):
    initial, x, delta = arrays(3, size, dtype)
    threads = _core.Center(initial)
    mine, theirs, out, want = x.copy(), x.copy(), np.empty_like(x), np.empty_like(x)
    with center_of(initial) as (center, _):
        for turn in range(3):
            assert center.elastic(mine, 0.3, turn) == threads.elastic(theirs, 0.3, turn)
            assert add(center, delta, turn) == add(threads, delta, turn)
            assert center.fetch(out, turn) == threads.fetch(want, turn) == center.version
            assert same_bits(mine, theirs)
            assert same_bits(out, want)
        center.store(initial)
        center.fetch(out)
        assert same_bits(out, initial)
        assert (center.size, center.dtype) == (size, np.dtype(dtype).name)


def pull(how, rank, rounds):
    """Elastic moves of whole numbers by a rate of one half of even differences: exact in float64."""
    center, x = _core.HostCenter(*how), np.full(how[1], float(rank + 1) * (1 << 20))
    for _ in range(rounds):
        center.elastic(x, 0.5, rank)
    center.close()
    return x


def test_x_and_c_are_conserved_between_processes():
    size, ranks, rounds = 50_000, 3, 20
    with center_of(np.zeros(size)) as (center, how):
        with process(pull, how, 1, rounds) as (_, one), process(pull, how, 2, rounds) as (_, two):
            pipes = [one, two]
            assert [result_of(pipe) for pipe in pipes] == ["started"] * 2
            xs = [pull(how, 0, rounds), *(result_of(pipe) for pipe in pipes)]
        out = np.empty(size)
        assert center.fetch(out) == ranks * rounds
        # Halves of halves lose bits in the end; a lost update would be a million.
        np.testing.assert_allclose(sum(xs) + out, 6.0 * (1 << 20), rtol=1e-12)


def count(how, rank, rounds):
    center, one = _core.HostCenter(*how), np.ones(how[1], np.float32)
    for _ in range(rounds):
        add(center, one, rank)
    center.close()
    return rounds


def test_no_addition_is_lost_between_processes():
    with center_of(np.zeros(5000, np.float32)) as (center, how):
        with process(count, how, 1, 4000) as (_, pipe):
            assert result_of(pipe) == "started"
            count(how, 0, 4000)
            assert result_of(pipe) == 4000
        out = np.empty(5000, np.float32)
        center.fetch(out)
        assert out.tolist() == [8000] * 5000
        assert center.version == 8000


def adds_for_ever(how):
    center, zero = _core.HostCenter(*how), np.zeros(how[1], np.float32)
    while True:
        add(center, zero, 1)


def test_a_process_that_died_holding_a_part_is_an_error_for_all_others():
    size = 4 << 20  # long enough that it nearly always holds one
    for _ in range(20):
        with center_of(np.zeros(size, np.float32)) as (center, how):
            other, out = _core.HostCenter(*how), np.empty(size, np.float32)
            with process(adds_for_ever, how) as (_, pipe):
                assert result_of(pipe) == "started"
                until_it_adds(center)
            if isinstance(error_of(lambda: center.fetch(out, seconds=PATIENCE)), _core.OwnerDied):  # noqa: B023
                for each in (center, other):
                    with pytest.raises(_core.OwnerDied, match="a process died while it was changing this center"):
                        each.elastic(out, 0.5)
                other.close()
                return
            other.close()
    pytest.fail("it never held a part")


def until_it_adds(center):
    before, end = center.version, time.monotonic() + PATIENCE
    while center.version < before + 2:
        assert time.monotonic() < end
        time.sleep(0.001)


def error_of(call):
    try:
        call()
    except Exception as error:
        return error
    return None


def test_a_stopped_process_is_a_time_out_and_may_go_on():
    size = 4 << 20
    out = np.empty(size, np.float32)
    with center_of(np.zeros(size, np.float32)) as (center, how), process(adds_for_ever, how) as (child, pipe):
        assert result_of(pipe) == "started"
        for _ in range(20):
            until_it_adds(center)
            os.kill(child.pid, signal.SIGSTOP)
            said = error_of(lambda: center.fetch(out, seconds=0.3))
            os.kill(child.pid, signal.SIGCONT)
            if isinstance(said, TimeoutError):
                assert "another process, which is probably stopped, holds a lock of this center" in str(said)
                assert center.fetch(out, seconds=PATIENCE) > 0
                return
    pytest.fail("it never held a part")


def test_what_does_not_fit_is_refused(tmp_path):
    with center_of(np.zeros(5, np.float32)) as (center, how):
        path = how[0]
        with pytest.raises(ValueError, match="holds 5 float32, wanted 2 float64"):
            _core.HostCenter(path, 2, "float64", False)
        with pytest.raises(ValueError, match="holds 5 float32, wanted 4 float32"):
            _core.HostCenter(path, 4, "float32", False)
        with pytest.raises(ValueError, match="bytes, wanted"):
            _core.HostCenter(path, 5000, "float32", False)
        with pytest.raises(ValueError, match="dtype must be 'float32' or 'float64', got 'int8'"):
            _core.HostCenter(path, 5, "int8", False)
        with pytest.raises(ValueError, match="initial must be None unless create is True"):
            _core.HostCenter(*how, np.zeros(5, np.float32))
        with pytest.raises(ValueError, match="rate must be finite"):
            center.elastic(np.zeros(5, np.float32), float("inf"))
        with pytest.raises(TypeError, match="x must be float32 like the center"):
            center.elastic(np.zeros(5), 0.5)
        with pytest.raises(ValueError, match=r"values\[0\] must be of 5 elements"):
            add(center, np.zeros(4, np.float32))
        with pytest.raises(ValueError, match="rank must be at least 0"):
            add(center, np.zeros(5, np.float32), -1)
    with pytest.raises(ValueError, match="this HostCenter is closed"):
        center.fetch(np.zeros(5, np.float32))
    path = tmp_path / "memory"
    path.write_bytes(b"\0" * _core.HostCenter.needed(5, "float32"))
    with pytest.raises(ValueError, match="was not made by HostCenter"):
        _core.HostCenter(str(path), 5, "float32", False)


def test_threads_of_one_process_share_it_too_and_it_is_not_closed_under_them():
    ones = np.ones(4 << 20, np.float32)
    with center_of(ones) as (center, _):
        stop = threading.Event()

        def work():
            while not stop.is_set():
                add(center, ones)

        thread = threading.Thread(target=work)
        thread.start()
        said = None
        while said is None:
            until_it_adds(center)
            said = error_of(center.close)
        stop.set()
        thread.join()
    assert "in use by another thread" in str(said)
