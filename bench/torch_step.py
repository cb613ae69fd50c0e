"""What a strategy adds to a step of a torch loop, with one worker: the limit is the same loop in bare torch.

Each contestant trains a network of its own, from the same start, on the same batch. The target is at most 2% or
100 microseconds more than bare torch, whichever is more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

import loosestep as ls
import loosestep.torch
from bench.harness import Options, Row, measure

STRATEGIES = (ls.AllReduceSGD(), ls.LocalSGD(10), ls.EASGD(10), ls.SyncEASGD(10), ls.CDSGD(), ls.Downpour(10))


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 128), nn.Linear(128, 10)
    )


def cnn() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * 25, 128), nn.ReLU(), nn.Linear(128, 10)),
    )


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "MLP of 2.0 M parameters, batch 64": (mlp, (64, 784)),
    "CNN of 0.11 M parameters, batch 64": (cnn, (64, 1, 28, 28)),
}


def rows(options: Options) -> Iterator[Row]:
    for case, (make, shape) in CASES.items():
        if options.only not in case:
            continue
        contestants = {"bare torch": loop(make, shape, None)}
        contestants |= {f"loosestep {strategy}": loop(make, shape, strategy) for strategy in STRATEGIES}
        check(make, shape)
        measured = measure(contestants, options, at_least=0.05)
        yield from measured.rows(
            "torch_step", case, threads=torch.get_num_threads(), amount=1, unit="steps/s", limits=["bare torch"]
        )


def check(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    """What is measured trains: the loss of some steps is the bare loop's, bit for bit where it must be."""
    plain, ours, local = (loop(make, shape, each) for each in (None, ls.AllReduceSGD(), ls.LocalSGD(10)))
    for _ in range(3):
        wanted = plain()
        if ours() != wanted or local() != wanted:
            raise AssertionError("a strategy that is the identity for one worker changed the losses")


def loop(make: Callable[[], nn.Module], shape: tuple[int, ...], strategy: ls.Strategy | None) -> Callable[[], Any]:
    """One step of training; returns the loss."""
    torch.manual_seed(0)
    net, x, y = make(), torch.randn(*shape), torch.randint(0, 10, (shape[0],))
    optimizer: Any = torch.optim.SGD(net.parameters(), 1e-3, momentum=0.9)
    if strategy is not None:
        optimizer = loosestep.torch.parallel(net, optimizer, strategy, ls.Serial())

    def step() -> Any:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
