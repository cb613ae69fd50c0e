"""One rank of a contestant of `torch_step`: `python -m bench.torch_ranks ADDRESS CASE NAME [RANK SIZE PLACE]`.

It trains `STEPS` steps a call on a batch of its own, when it is told to, and sleeps between.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Client
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

import loosestep as ls
import loosestep.torch
from bench.ranks import processor, settle
from bench.torch_cases import CASES, STEPS

STRATEGIES: dict[str, ls.Strategy] = {
    str(each): each for each in (ls.AllReduceSGD(), ls.LocalSGD(STEPS), ls.EASGD(STEPS), ls.CDSGD())
}
RIVALS = ("bare torch, side by side", "DDP, Gloo", "PostLocalSGD, Gloo")

Wrapped = tuple[nn.Module, Any]


def bare(net: nn.Module, optimizer: Any) -> Wrapped:
    return net, optimizer


def ddp(net: nn.Module, optimizer: Any) -> Wrapped:
    return nn.parallel.DistributedDataParallel(net), optimizer


def post_local(net: nn.Module, optimizer: Any) -> Wrapped:
    """torch's local SGD: no gradient travels, parameters are averaged every STEPS steps."""
    from torch.distributed.algorithms.ddp_comm_hooks import post_localSGD_hook as hook
    from torch.distributed.algorithms.model_averaging.averagers import PeriodicModelAverager
    from torch.distributed.optim import PostLocalSGDOptimizer

    model = nn.parallel.DistributedDataParallel(net)
    mine, _ = dist.new_subgroups(group_size=1)
    state = hook.PostLocalSGDState(None, mine, start_localSGD_iter=0, post_local_gradient_allreduce=False)
    model.register_comm_hook(state, hook.post_localSGD_hook)
    return model, PostLocalSGDOptimizer(optimizer, PeriodicModelAverager(period=STEPS, warmup_steps=0))


def wrapper(name: str) -> Callable[[nn.Module, Any], Wrapped]:
    """How a contestant makes its loop parallel."""
    if name in STRATEGIES:
        return lambda net, optimizer: (net, loosestep.torch.parallel(net, optimizer, STRATEGIES[name], ls.MPI()))
    return dict(zip(RIVALS, (bare, ddp, post_local), strict=True))[name]


def steps(case: str, name: str, rank: int) -> Callable[[], float]:
    """Some steps; returns the last loss."""

    make, shape = CASES[case]
    torch.manual_seed(0)
    net = make()
    torch.manual_seed(1 + rank)
    x, y = torch.randn(*shape), torch.randint(0, 10, (shape[0],))
    model, optimizer = wrapper(name)(net, torch.optim.SGD(net.parameters(), 1e-3, momentum=0.9))

    def run() -> float:
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        return float(loss.detach())

    return run


def rank_of(name: str, own: list[str]) -> int:
    """This rank; the rivals' processes find one another here."""
    if name in STRATEGIES:
        from mpi4py import MPI

        return int(MPI.COMM_WORLD.Get_rank())
    rank, size, place = int(own[0]), int(own[1]), own[2]
    if "Gloo" in name:
        dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=size)
    return rank


def main() -> None:
    address, case, name, *own = sys.argv[1:]
    torch.set_num_threads(1)
    rank = rank_of(name, own)
    settle(rank)
    run = steps(case, name, rank)
    with Client(address) as pipe:
        pipe.send(rank)
        while (told := pipe.recv()) is not None:
            pipe.send(run() if told[0] == "loss" else timed(run, told[1]))


def timed(run: Callable[[], float], repeats: int) -> tuple[float, float]:
    """Seconds of one call, and of processor time altogether."""
    busy, start = processor(), time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats, processor() - busy


if __name__ == "__main__":
    main()
