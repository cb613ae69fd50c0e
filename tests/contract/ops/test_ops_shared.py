"""Ops in many threads, in forked processes, and on vectors that threads share."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest
from tests.contract.ops.op_arguments import (
    SHARED,
    arguments,
    assert_same,
    dtypes,
)

from loosestep import _core, ops


@pytest.mark.parametrize("name", SHARED)
@dtypes
@pytest.mark.parametrize("n", [0, 1, 17, 10**6 + 3])
def test_alone_a_shared_update_is_the_plain_one(name: str, dtype: type, n: int) -> None:
    both = {adds: getattr(getattr(ops, adds), name) for adds in ("exact", "racy")}
    assert_same(name, both, arguments(name, n, dtype))


def together(count: int, work: Callable[[int], None]) -> None:
    start = threading.Barrier(count)

    def run(rank: int) -> None:
        start.wait(10)
        work(rank)

    workers = [threading.Thread(target=run, args=(rank,)) for rank in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


@dtypes
def test_exact_adds_from_many_threads_are_all_there(dtype: type) -> None:
    """Sums of small integers have no rounding: what is missing was lost."""
    n, times = 64 << 10, 20
    shared, ones = np.zeros(n, dtype), np.ones(n, dtype)

    def work(rank: int) -> None:
        for _ in range(times):
            ops.exact.axpy(shared, ones, rank + 1.0)

    together(4, work)
    assert (shared == times * (1 + 2 + 3 + 4)).all()


def test_a_snapshot_holds_values_that_were_there() -> None:
    shared, out, ones = np.zeros(1000), np.empty(1000), np.ones(1000)

    def work(rank: int) -> None:
        for _ in range(200):
            ops.exact.axpy(shared, ones, 1.0) if rank else ops.load(shared, out)

    together(3, work)
    assert (shared == 400).all()
    assert np.isin(out, np.arange(401)).all()


def test_large_calls_in_other_threads_give_the_same_bits() -> None:
    given = arguments("elastic", 10**6 + 3, np.float32)
    wanted = copy.deepcopy(given)
    ops.elastic(**wanted)
    together(1, lambda rank: ops.elastic(**given))
    assert given["x"].tobytes() == wanted["x"].tobytes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_can_go_on() -> None:
    """OpenMP's threads do not survive a fork: a large call in the child would wait for ever."""
    program = (
        "import os, numpy as np\n"
        "from loosestep import ops\n"
        "x, c = np.ones(1 << 20), np.zeros(1 << 20)\n"
        "ops.elastic(x, c, 0.5)\n"
        "child = os.fork()\n"
        "ops.elastic(x, c, 0.5)\n"
        "if child == 0: os._exit(7 if x[0] == 0.5 else 1)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "7"


def test_threads_are_at_least_one() -> None:
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        _core.set_threads(0)


def test_an_unknown_instruction_set_is_refused() -> None:
    with pytest.raises(ValueError, match=r"isa must be one of .*, got 'mmx'"):
        _core.isa("mmx")
