"""One rank of a job under mpiexec: vectors lie in memory that all ranks of a host map, and are private later."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

import numpy as np
import torch
from tests.torch.processes.ranks import rank, say
from torch import nn

import loosestep as ls
import loosestep.torch
from loosestep.foundation import buffers

SIZE = 300_000


def bits(*arrays: Any) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(each).tobytes() for each in arrays)).hexdigest()[:8]


def batches(rank: int, size: int) -> Any:
    random = np.random.default_rng(rank)
    return iter([random.standard_normal((2, 10)) for _ in range(6)])


def by_run(strategy: ls.Strategy, seen: list[bool], **how: Any) -> Any:
    """The result of a run, and for each gradient whether the parameters lay in an arena."""

    def gradient(x: Any, rows: Any) -> Any:
        seen.append(any(arena.holds(x) for arena in buffers.ARENAS))
        return x - np.resize(rows, x.size)

    return ls.run(strategy, gradient, np.ones(SIZE), batches, optimizer=ls.Nesterov(0.1), **how)


def in_a_fork(work: Any) -> int:
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def by_loop(strategy: ls.Strategy) -> tuple[bool, str]:
    """Whether parameters and gradients of a torch loop lay in an arena, and what they came to."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(300, 100), nn.Linear(100, 50).to(torch.bfloat16))
    inner = torch.optim.SGD(net.parameters(), 0.1)
    with loosestep.torch.parallel(net, inner, strategy, ls.MPI()) as optimizer:
        weight = net[0].weight
        lies = any(arena.holds(optimizer.worker.grad) for arena in buffers.ARENAS)
        assert lies == any(arena.holds(weight.detach().numpy()) for arena in buffers.ARENAS)
        for step in range(6):
            torch.manual_seed(10 * step + optimizer.rank)
            optimizer.zero_grad()
            net[1](net[0](torch.randn(4, 300)).to(torch.bfloat16)).square().mean().backward()
            optimizer.step()
            before = bits(weight.detach().numpy())
            assert in_a_fork(lambda: weight.data.fill_(7)) == 0
            assert bits(weight.detach().numpy()) == before, "the child has a copy"
        address = weight.data_ptr()
    assert weight.data_ptr() == address
    assert not buffers.ARENAS
    with torch.no_grad():
        consensus = bits(*(param.float().numpy() for param in net.parameters()))
        weight += 1  # it is this process's own
    return lies, consensus


def everything() -> tuple[set[bool], list[str]]:
    """Whether vectors lay in an arena, and what runs and a loop came to."""
    seen: list[bool] = []
    found = []
    for strategy in (ls.AllReduceSGD(), ls.LocalSGD(2)):
        result = by_run(strategy, seen, on=ls.MPI())
        assert not buffers.ARENAS
        found.append(bits(result.params))
        result.params[:] = 1  # it is this process's own
    lies, consensus = by_loop(ls.LocalSGD(2))
    return {*seen, lies}, [*found, consensus]


def placed() -> int:
    """Both loops, with the bits of private vectors."""
    where, found = everything()
    usual, buffers.ARENA_FROM = buffers.ARENA_FROM, 1 << 60
    private = everything()
    buffers.ARENA_FROM = usual
    assert where == {True}
    assert private == ({False}, found)
    return rank()


CASES: dict[str, Callable[[], int]] = {"placed": placed}

if __name__ == "__main__":
    say(CASES)
