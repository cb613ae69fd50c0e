"""Run by two ranks: their vectors lie in memory that both map while they train, and are their own afterwards.

loosestep run -n 2 placed.py
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from typing import Any

import numpy as np

import loosestep as ls
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
    import torch

    import loosestep.torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(300, 100), torch.nn.Linear(100, 50).to(torch.bfloat16))
    inner = torch.optim.SGD(net.parameters(), 0.1)
    with loosestep.torch.parallel(net, inner, strategy) as optimizer:
        rank = optimizer.rank
        weight = net[0].weight
        lies = any(arena.holds(optimizer.worker.grad) for arena in buffers.ARENAS)
        assert lies == any(arena.holds(weight.detach().numpy()) for arena in buffers.ARENAS)
        for step in range(6):
            torch.manual_seed(10 * step + rank)
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


def everything() -> list[Any]:
    found: list[Any] = []
    for strategy in (ls.AllReduceSGD(), ls.LocalSGD(2), ls.EASGD(2)):
        seen: list[bool] = []
        result = by_run(strategy, seen)
        assert not buffers.ARENAS
        if strategy != ls.EASGD(2):  # whose order of moves is no one's
            found.append(bits(result.params))
        result.params[:] = 1  # it is this process's own
        found.append(set(seen))
    if importlib.util.find_spec("torch"):
        found += by_loop(ls.LocalSGD(2))
    return found


def main() -> None:
    placed = everything()
    buffers.ARENA_FROM = 1 << 60
    private = everything()
    wanted = [each if isinstance(each, str) else {True} if each == {False} else True for each in private]
    assert placed == wanted, (placed, private)
    print("the same bits", flush=True)


if __name__ == "__main__":
    main()
