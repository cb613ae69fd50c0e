"""One rank of a job under mpiexec, as ranks.py: networks whose parameters have several dtypes."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

import torch
from mpi4py import MPI
from tests.torch.checkpoint.saving import begun_at, saved_after
from tests.torch.processes.ranks import ROWS, rank, say, spread, train
from tests.torch.training import Mixed, assert_same_bits, batches, left_behind, momentum
from torch import nn

import loosestep as ls
import loosestep.torch


def union() -> int:
    """Parameters of bfloat16, float32 and float64 under AllReduceSGD: the union batch, to bfloat16's rounding."""
    for kinds in ((torch.bfloat16, torch.float32), (torch.bfloat16, torch.float32, torch.float64)):
        torch.manual_seed(0)
        alone = Mixed(*kinds)
        plain = momentum(alone.parameters())
        for x, y in batches(8, rows=ROWS):
            plain.zero_grad()
            nn.functional.cross_entropy(alone(x), y).backward()
            plain.step()
        for bucket_bytes in (25 << 20, 64):
            torch.manual_seed(rank())
            optimizer, ours = train(ls.AllReduceSGD(bucket_bytes=bucket_bytes), Mixed(*kinds))
            for a, b in zip(ours, left_behind(alone, plain), strict=True):
                assert a.dtype == b.dtype
                torch.testing.assert_close(a.float(), b.float(), rtol=2.0**-6, atol=2.0**-6)
            assert spread(optimizer) == 0
            assert len(set(MPI.COMM_WORLD.allgather(digest(ours)))) == 1
    return rank()


def digest(tensors: list[torch.Tensor]) -> bytes:
    return b"".join(tensor.double().numpy().tobytes() for tensor in tensors)


def means() -> int:
    """Replicas of several dtypes are the same after every second step, and in every consensus."""
    averaging = (ls.LocalSGD(period=2), ls.AllReduceSGD(), ls.CDSGD(topology=ls.Complete()))
    for strategy in (*averaging, ls.EASGD(period=2), ls.SyncEASGD(period=2, order="published")):
        torch.manual_seed(rank())
        net = Mixed()
        optimizer = loosestep.torch.parallel(net, momentum(net.parameters()), strategy)
        parameters = list(net.parameters())
        assert len(set(MPI.COMM_WORLD.allgather(digest(parameters_of(net))))) == 1
        with optimizer:
            for step, (x, y) in enumerate(batches(5 + 2 * optimizer.rank, rows=ROWS), 1):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(x + optimizer.rank), y).backward()
                optimizer.step()
                if isinstance(strategy, ls.LocalSGD) and step < 5:
                    alike = len(set(MPI.COMM_WORLD.allgather(digest(parameters_of(net))))) == 1
                    assert alike == (step % 2 == 0), step
        with optimizer.consensus():
            assert len(set(MPI.COMM_WORLD.allgather(digest(parameters_of(net))))) == 1
        assert [param.dtype for param in parameters] == [param.dtype for param in Mixed().parameters()]
    return rank()


def stale_slots() -> int:
    """Between calls, and while backward runs, nothing depends on the slots of cast parameters."""
    averaging = (ls.LocalSGD(period=2), ls.AllReduceSGD(64), ls.CDSGD(topology=ls.Complete()))
    for strategy in (*averaging, ls.SyncEASGD(period=2, order="published")):
        assert_same_bits(*(after(strategy, stale=stale) for stale in (True, False)))
    return rank()


def after(strategy: ls.Strategy, *, stale: bool) -> list[torch.Tensor]:
    """Train; where `stale`, slots are not a number whenever the user's code runs."""
    torch.manual_seed(0)
    net = Mixed()
    optimizer = loosestep.torch.parallel(net, momentum(net.parameters()), strategy)

    def spoil() -> None:
        for slot in optimizer.layout.slots if stale else ():
            if slot.cast is not None:
                slot.cast.fill_(torch.nan)

    with optimizer:
        for x, y in batches(5, rows=ROWS):
            optimizer.zero_grad()
            spoil()
            nn.functional.cross_entropy(net(x + optimizer.rank), y).backward()
            spoil()
            optimizer.step()
        spoil()
    return left_behind(net, optimizer.inner)


def gossip() -> int:
    """CDSGD on all workers: x <- mean x - eta g(x), where x is rounded to its dtype once a step."""
    torch.manual_seed(0)
    net = Mixed()
    optimizer = loosestep.torch.parallel(
        net, torch.optim.SGD(net.parameters(), 0.5), ls.CDSGD(topology=ls.Complete())
    )
    with optimizer:
        for x, y in batches(4):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x + optimizer.rank), y).backward()
            for param in net.parameters():
                param.data.mul_(0.75)  # between backward and step: it is what others get
            every = MPI.COMM_WORLD.allgather(parameters_of(net))
            wanted = []
            for param, *replicas in zip(net.parameters(), *every, strict=True):
                mean = torch.stack([replica.double() for replica in replicas]).mean(0)
                wanted.append(mean.to(param.dtype) - 0.5 * param.grad)
            optimizer.step()
            for param, value in zip(net.parameters(), wanted, strict=True):
                torch.testing.assert_close(param.detach(), value, rtol=2.0**-7, atol=2.0**-8)
    return optimizer.rank


def parameters_of(net: nn.Module) -> list[torch.Tensor]:
    return [param.detach().clone() for param in net.parameters()]


def unused() -> int:
    """A half parameter that only rank 0 used moves everywhere, by its share of the mean."""
    torch.manual_seed(0)
    net = nn.ModuleList([nn.Linear(5, 3, bias=False, dtype=kind) for kind in (torch.bfloat16, torch.float32)])
    optimizer = loosestep.torch.parallel(net, torch.optim.SGD(net.parameters(), 1.0), ls.AllReduceSGD(64))
    before = net[0].weight.detach().clone()
    with optimizer:
        ((x, y),) = batches(1)
        half = nn.functional.cross_entropy(net[0](x.bfloat16()).float(), y)
        (gradient,) = torch.autograd.grad(half, net[0].weight, retain_graph=True)
        (half if optimizer.rank == 0 else nn.functional.cross_entropy(net[1](x), y)).backward()
        optimizer.synchronize()
        mean = (gradient.float() / optimizer.size).bfloat16()
        assert torch.equal(net[0].weight.grad, mean)
        optimizer.step()
        assert torch.equal(net[0].weight, before - mean)
    return optimizer.rank


def other_workers() -> int:
    """The same with parameters of several dtypes, to bfloat16's rounding: a new start is one of parameters."""
    for strategy in (ls.LocalSGD(period=4), ls.EASGD(period=3)):
        folder = MPI.COMM_WORLD.bcast(tempfile.mkdtemp())
        wanted = saved_after(6, strategy, f"{folder}/all", ls.MPI(), seeded_mixed(0))
        MPI.COMM_WORLD.Barrier()
        if rank() == 0:
            begun_at(wanted, strategy, f"{folder}/all", ls.Serial(), seeded_mixed(1), 2.0**-7)
        MPI.COMM_WORLD.Barrier()
    return rank()


def seeded_mixed(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return Mixed()


CASES: dict[str, Callable[[], int]] = {
    case.__name__: case for case in (union, means, stale_slots, unused, gossip, other_workers)
}

if __name__ == "__main__":
    say(CASES)
