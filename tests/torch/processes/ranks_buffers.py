"""One rank of a job under mpiexec: SyncBatchNorm, and buffers that are kept alike while training."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

import torch
from mpi4py import MPI
from tests.torch.processes.ranks import rank, say, spread
from tests.torch.training import assert_same_bits
from torch import nn

import loosestep as ls
import loosestep.torch
from loosestep.foundation.errors import LoosestepError

SHARES = (7, 3, 5, 4)  # rows of each rank


def network(norm: Any, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), norm(4, **options), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 3))


def data(step: int) -> tuple[torch.Tensor, torch.Tensor, slice]:
    """The rows of all ranks, and which of them are this rank's."""
    random = torch.Generator().manual_seed(step)
    size = MPI.COMM_WORLD.size
    edges = [sum(SHARES[:number]) for number in range(size + 1)]
    x = 3 + torch.randn(edges[-1], 2, 6, 6, generator=random)
    return x, torch.randint(0, 3, (edges[-1],), generator=random), slice(edges[rank()], edges[rank() + 1])


def as_one_process() -> int:
    """Outputs, gradients and running statistics are those of one process with all rows."""
    size = MPI.COMM_WORLD.size
    for norm, options in (
        (nn.BatchNorm2d, {}),
        (nn.SyncBatchNorm, {}),
        (nn.BatchNorm2d, {"momentum": None}),
        (nn.BatchNorm2d, {"affine": False, "track_running_stats": False}),
    ):
        net, alone = network(norm, **options), network(nn.BatchNorm2d, **options)
        inner, plain = (torch.optim.SGD(each.parameters(), 0.1) for each in (net, alone))
        kind = "own" if norm is nn.SyncBatchNorm else "sync"
        with loosestep.torch.parallel(net, inner, ls.AllReduceSGD(64), batch_norm=kind) as optimizer:
            for step in range(4):
                x, y, mine = data(step)
                out, wanted = net(x[mine]), alone(x)
                torch.testing.assert_close(out, wanted[mine], rtol=1e-6, atol=1e-6)
                for model, logits, labels, of, factor in (
                    (net, out, y[mine], optimizer, size / len(x)),
                    (alone, wanted, y, plain, 1 / len(x)),
                ):
                    of.zero_grad()
                    (nn.functional.cross_entropy(logits, labels, reduction="sum") * factor).backward()
                    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                for one, other in zip(net.parameters(), alone.parameters(), strict=True):
                    torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-6)
                optimizer.step()
                plain.step()
                assert spread(optimizer) == 0
            for one, other in zip(net.buffers(), alone.buffers(), strict=True):
                torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
            net.eval()
            assert_same_bits([net(x)], [network_like(net)(x)])  # running statistics: a plain layer
    return rank()


def network_like(net: nn.Module) -> nn.Module:
    """Return what another program makes of the model."""
    plain = pickle.loads(pickle.dumps(net))
    assert [type(layer).__module__.split(".")[0] for layer in plain] == ["torch"] * len(plain)
    assert {type(layer) for layer in copy.deepcopy(net)} == {type(layer) for layer in plain}
    return plain


def alone_in_train() -> int:
    """Inside once() a worker is alone, and its layers are its own; after close() all are plain again."""
    net = network(nn.SyncBatchNorm)
    inner = torch.optim.SGD(net.parameters(), 0.1)
    with loosestep.torch.parallel(net, inner, ls.LocalSGD(2), buffers="sync") as optimizer:
        for step in range(4):
            x, y, mine = data(step)
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[mine]), y[mine]).backward()
            optimizer.step()
            optimizer.once(net, x[mine])
        assert isinstance(net[1], nn.SyncBatchNorm)
    assert type(net[1]) is nn.SyncBatchNorm
    net(x[mine])
    return rank()


class Codes(nn.Module):
    """A layer whose buffer follows its batches, as a codebook does, and takes part in its output."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def forward(self, x: Any) -> Any:
        if self.training:
            self.mean.lerp_(x.mean(0), 0.5)
            self.count += 1
        return self.linear(x - self.mean)


def kept_alike() -> int:
    """buffers='sync': the mean of all workers whenever a round ends; those whose data has ended are left out."""
    for strategy, period in ((ls.AllReduceSGD(), 1), (ls.LocalSGD(3), 3)):
        torch.manual_seed(0)
        net = Codes()
        inner = torch.optim.SGD(net.parameters(), 0.1)
        with loosestep.torch.parallel(net, inner, strategy, buffers="sync") as optimizer:
            before = optimizer.meter.bytes
            for step in range(1, 7 + 2 * rank()):
                optimizer.zero_grad()
                last = net.mean.clone()
                x = torch.full((2, 3), float(step + rank()))
                net(x).pow(2).mean().backward()
                mine = torch.lerp(last, x.mean(0), 0.5)
                assert torch.equal(net.mean, mine)
                optimizer.step()
                if step <= 6:
                    every = MPI.COMM_WORLD.allgather(mine.double())
                    mean = torch.stack(every).mean(0).float()
                    assert torch.equal(net.mean, mean if step % period == 0 else mine)
                if step == 6:
                    size = optimizer.size
                    whole = optimizer.layout.params.nbytes + 3 * 8
                    sent = optimizer.meter.bytes - before
                    assert abs(sent - 6 // period * 2 * (size - 1) * whole / size) <= 64 * 6, (sent, whole)
            assert int(net.count) == 6 + 2 * rank()
    return rank()


def unlike_passes() -> int:
    """A rank that makes fewer forward passes is told of on all."""
    net = network(nn.SyncBatchNorm)
    inner = torch.optim.SGD(net.parameters(), 0.1)
    said = ""
    try:
        with loosestep.torch.parallel(net, inner, ls.AllReduceSGD()) as optimizer:
            for step in range(3 - (rank() == 1)):
                x, y, mine = data(step)
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(x[mine]), y[mine]).backward()
                optimizer.step()
    except LoosestepError as error:
        said = " ".join([str(error), *getattr(error, "__notes__", [])])
    told = MPI.COMM_WORLD.allgather(said)
    assert any("SyncBatchNorm makes all workers meet in every forward pass" in each for each in told), told
    return rank()


CASES: dict[str, Callable[[], int]] = {
    case.__name__: case for case in (as_one_process, alone_in_train, kept_alike, unlike_passes)
}

if __name__ == "__main__":
    say(CASES)
