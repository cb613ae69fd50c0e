"""One rank of a job under mpiexec: what workers agree on, and save together, as they do in threads."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

import torch
from mpi4py import MPI
from tests.torch.processes.ranks import rank, say
from tests.torch.training import adamw, batches, left_behind, loss_of, momentum, seeded
from torch.utils.data import WeightedRandomSampler

import loosestep as ls
import loosestep.torch


def steps(net: Any, optimizer: Any, count: int) -> None:
    for x, y in batches(count):
        optimizer.zero_grad()
        loss_of(net, x + optimizer.rank, y).backward()
        optimizer.step()


def agreement() -> int:
    """The same values for all, also where workers stand at other steps."""
    world = loosestep.torch.world()
    assert (world.rank, world.size) == (MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size)
    assert 0 <= world.local_rank < world.size
    size = world.size
    for strategy in (ls.LocalSGD(4), ls.StreamingDiLoCo(4, fragments=2), ls.EASGD(3), ls.Downpour(2)):
        net = seeded(0)
        with loosestep.torch.parallel(net, momentum(net.parameters()), strategy, world) as optimizer:
            steps(net, optimizer, 5 + rank() * (not strategy.synchronous))
            assert optimizer.mean(rank()) == (size - 1) / 2
            assert optimizer.mean({"x": torch.ones(3) * rank()}, weight=rank())["x"].dtype == torch.float32
            assert optimizer.gather({"rank": rank()}) == [{"rank": other} for other in range(size)]
            assert optimizer.agree(("of", rank())) == ("of", 0)
            score = optimizer.once(lambda net=net: net[0].weight.sum().item(), everywhere=True)
            assert MPI.COMM_WORLD.allgather(score) == [score] * size
            optimizer.barrier()
            steps(net, optimizer, 2)
            while not optimizer.stopping:
                steps(net, optimizer, 1)
                if optimizer.worker.clock == 9 + rank():
                    optimizer.stop()
            clocks = optimizer.gather(optimizer.worker.clock)
            assert not strategy.synchronous or len(set(clocks)) == 1, clocks
    return rank()


def together() -> int:
    """Two optimizers of unlike strategies, in the middle of a round, with a sampler: one checkpoint."""
    folder = MPI.COMM_WORLD.bcast(tempfile.mkdtemp() if rank() == 0 else None)

    def made() -> Any:
        nets = [seeded(0), seeded(1)]
        inners = [momentum(nets[0].parameters()), adamw(list(nets[1].parameters()))]
        strategies = (ls.StreamingDiLoCo(6, fragments=2, delay=2), ls.AllReduceSGD())
        pairs = zip(nets, inners, strategies, strict=True)
        optimizers = [loosestep.torch.parallel(*each) for each in pairs]
        torch.manual_seed(rank())
        sampler = optimizers[0].shard(WeightedRandomSampler([1.0] * 60, 120), 2)
        return nets, optimizers, sampler

    def train(nets: Any, optimizers: Any, sampler: Any, count: int) -> Any:
        rows = []
        for (x, y), chosen, _ in zip(batches(30), sampler, range(count), strict=False):
            rows.append(chosen)
            for net, optimizer in zip(nets, optimizers, strict=True):
                optimizer.zero_grad()
                loss_of(net, x + sum(chosen), y).backward()
                optimizer.step()
        every = [left_behind(net, optimizer.inner) for net, optimizer in zip(nets, optimizers, strict=True)]
        return rows, [tensor.tolist() for tensors in every for tensor in tensors]

    nets, optimizers, sampler = made()
    train(nets, optimizers, sampler, 9)
    loosestep.torch.save_together(folder, optimizers, {"epoch": 1}, also=[sampler])
    torch.manual_seed(5)
    wanted = train(nets, optimizers, resumed(sampler), 12)
    for optimizer in optimizers:
        optimizer.close()
    nets, optimizers, sampler = made()
    assert loosestep.torch.restore_together(folder, optimizers, also=[sampler]) == {"epoch": 1}
    assert [optimizer.worker.clock for optimizer in optimizers] == [9, 9]
    assert train(nets, optimizers, sampler, 12) == wanted
    for optimizer in optimizers:
        optimizer.close()
    return rank()


def resumed(sampler: Any) -> Any:
    """It, at the place where it was left."""
    sampler.load_state_dict(sampler.state_dict())
    return sampler


CASES: dict[str, Callable[[], int]] = {case.__name__: case for case in (agreement, together)}

if __name__ == "__main__":
    say(CASES)
