"""HostBuffer: one vector of several processes, and what is left of it when each takes it for itself."""

import faulthandler
import gc
import os
import signal
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tests.native.processes import SERVER, result_of

from loosestep import _core, ops


@contextmanager
def buffer_of(size, dtype="float32"):
    """A buffer, and how another process opens it."""
    fd = _core.Host.make(_core.HostBuffer.needed(size, dtype))
    try:
        yield _core.HostBuffer(fd, size, dtype, True), (f"/proc/{os.getpid()}/fd/{fd}", size, dtype, False)
    finally:
        os.close(fd)


def adding(pipe, how, turns):
    """Adds ones, says so, and after an answer tells what it has for itself."""
    buffer = _core.HostBuffer(*how)
    x = buffer.array
    for _ in range(turns):
        ops.exact.axpy(x, np.ones_like(x), 1.0)
    pipe.send(("fine", turns))
    pipe.recv()
    buffer.close()
    x += 1
    pipe.send(("fine", x.copy()))


@contextmanager
def child(work, *args):
    pipe, theirs = SERVER.Pipe()
    process = SERVER.Process(target=work, args=(theirs, *args))
    process.start()
    theirs.close()
    try:
        yield pipe
    finally:
        process.kill()
        process.join()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_two_processes_add_to_it_and_then_each_has_its_own(dtype):
    with buffer_of(5000, dtype) as (buffer, how), child(adding, how, 300) as pipe:
        x = buffer.array
        part, address = x[10:20], x.__array_interface__["data"][0]
        for _ in range(200):
            ops.exact.axpy(x, np.ones_like(x), 1.0)
        assert result_of(pipe) == 300
        assert (x == 500).all()
        buffer.close()
        x += 7
        assert x.__array_interface__["data"][0] == address
        assert part.tolist() == [507] * 10
        pipe.send("go on")
        assert result_of(pipe).tolist() == [501] * 5000
        assert x.tolist() == [507] * 5000
        assert buffer.array.tolist() == [507] * 5000
        buffer.close()


def mapped(address):
    return any(line.startswith(f"{address:x}-") for line in Path("/proc/self/maps").read_text().splitlines())


@pytest.mark.parametrize("closed", [False, True])
def test_the_last_view_of_it_keeps_the_memory(closed):
    with buffer_of(1 << 20) as (buffer, _):
        view = buffer.array[3:9]
        address = buffer.array.__array_interface__["data"][0]
        view[:] = 4
        if closed:
            buffer.close()
        del buffer
        gc.collect()
        assert mapped(address)
        assert view.tolist() == [4] * 6
        del view
        gc.collect()
        assert not mapped(address)


def ended(work):
    """How a forked child ends that does this."""
    pid = os.fork()
    if pid == 0:
        faulthandler.disable()  # it would tell what is wanted here
        work()
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def test_a_forked_child_cannot_write_it_and_may_let_it_go():
    with buffer_of(100) as (buffer, _):
        x = buffer.array

        def write():
            x[:] = 1

        assert os.WTERMSIG(ended(write)) == signal.SIGSEGV
        assert ended(buffer.close) == 0
        assert x.tolist() == [0] * 100
        buffer.close()
        assert ended(write) == 0
        assert x.tolist() == [0] * 100


def test_what_does_not_fit_is_refused():
    with buffer_of(1000) as (_, (path, *_)):
        with pytest.raises(ValueError, match="holds 4000 bytes, wanted 4004: it was made for something else"):
            _core.HostBuffer(path, 1001, "float32", False)
        with pytest.raises(ValueError, match="dtype must be 'float32' or 'float64', got 'int32'"):
            _core.HostBuffer(path, 1000, "int32", False)


def test_one_without_elements():
    with buffer_of(0) as (buffer, _):
        assert buffer.array.size == 0
        buffer.close()
