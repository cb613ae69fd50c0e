"""What the tests of processes have in common: one process a rank, over one mapping."""

import multiprocessing
import os
import traceback
from contextlib import contextmanager

from loosestep import _core

SERVER = multiprocessing.get_context("forkserver")
"""Forks a process for each rank from one that has imported the core and used none of it."""
SERVER.set_forkserver_preload(["loosestep._core"])
PATIENCE = 60.0


@contextmanager
def memory(size):
    """The path of memory for so many ranks, laid out; with it, rank 0's Host."""
    fd = _core.Host.make(_core.Host.needed(size))
    host = _core.Host(fd, size, 0, True)
    try:
        yield f"/proc/{os.getpid()}/fd/{fd}", host
    finally:
        host.close()
        os.close(fd)


def serve(pipe, work, path, size, rank, args):
    try:
        host = _core.Host(path, size, rank, False)
        pipe.send(("fine", work(host, rank, *args)))
        host.close()
    except BaseException:
        pipe.send(("failed", traceback.format_exc()))
        raise


@contextmanager
def started(size, work, path, *args):
    """By rank, from 1 on: a process in work(host, rank, *args) and the pipe to what it returns."""
    ranks = {}
    try:
        for rank in range(1, size):
            pipe, theirs = SERVER.Pipe()
            process = SERVER.Process(target=serve, args=(theirs, work, path, size, rank, args))
            process.start()
            theirs.close()
            ranks[rank] = (process, pipe)
        yield ranks
    finally:
        for process, _ in ranks.values():
            process.kill()
            process.join()


def result_of(pipe):
    assert pipe.poll(PATIENCE), "a rank is silent"
    said, result = pipe.recv()
    assert said == "fine", result
    return result


def on_processes(size, work, *args):
    """work(host, rank, *args) on every rank, rank 0 here; the results by rank."""
    with memory(size) as (path, host), started(size, work, path, *args) as ranks:
        mine = work(host, 0, *args)
        return [mine, *(result_of(ranks[rank][1]) for rank in range(1, size))]
