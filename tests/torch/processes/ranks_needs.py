"""One rank of a job under mpiexec, as ranks.py: strategies that need more of a loop than step()."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

import torch
from mpi4py import MPI
from tests.torch.checkpoint.saving import values
from tests.torch.processes.ranks import rank, say
from tests.torch.training import batches
from torch import nn

import loosestep as ls
import loosestep.torch
from loosestep.data.global_batch import order_of


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(5, 3).double()


def squares(net: nn.Module, batch: Any) -> Any:
    x, y = batch
    return nn.functional.cross_entropy(net(x.double()), y)


def in_threads(strategy: ls.Strategy, data: Callable[[int], list[Any]], **options: Any) -> ls.Result:
    """The same by the library's own loop, in every process."""
    size = MPI.COMM_WORLD.size
    model = loosestep.torch.Model(linear, squares)
    own = lambda rank, size: iter(data(rank))  # noqa: E731
    sgd = ls.SGD(0.1)
    return ls.run(strategy, model.gradient, model.x0, own, optimizer=sgd, on=ls.Threads(size), **options)


def by_hand(
    strategy: ls.Strategy, data: list[Any], *, waits: bool = True, **options: Any
) -> tuple[Any, torch.Tensor]:
    """In a loop of one's own: (the optimizer, the consensus at the end)."""
    net = linear()
    inner = torch.optim.SGD(net.parameters(), 0.1)
    optimizer = loosestep.torch.parallel(net, inner, strategy, **options)
    with optimizer:
        for batch in data:
            if waits:
                optimizer.ready()
            optimizer.zero_grad()
            squares(net, batch).backward()
            optimizer.step()
    with optimizer.consensus():
        return optimizer, values(optimizer)


def of_rank(rank: int, count: int = 12) -> list[Any]:
    return [(x + rank, y) for x, y in batches(count)]


def schedule() -> int:
    """From local steps to a center in lockstep, to averaged gradients: as in the library's own loop."""
    strategy = ls.Stages((ls.LocalSGD(3), 1), (ls.SyncEASGD(2), 1), (ls.AllReduceSGD(), None))
    _, ours = by_hand(strategy, of_rank(rank()), steps_per_epoch=4)
    wanted = in_threads(strategy, of_rank, steps_per_epoch=4).params
    torch.testing.assert_close(ours, torch.from_numpy(wanted), rtol=0, atol=1e-12)
    return rank()


def resting() -> int:
    """Half of the clients make each round; a client that waits for its turn uses all batches."""
    strategy = ls.FedAvg(3, fraction=0.5, seed=4)
    optimizer, ours = by_hand(strategy, of_rank(rank()))
    wanted = in_threads(strategy, of_rank)
    torch.testing.assert_close(ours, torch.from_numpy(wanted.params), rtol=0, atol=1e-12)
    assert optimizer.model.steps == wanted.workers[rank()].steps == 12
    optimizer, other = by_hand(strategy, of_rank(rank()), waits=False)
    assert optimizer.model.steps < 12, "a gradient that was taken before a rest is not used"
    assert torch.isfinite(other).all()
    return rank()


def shared_out() -> int:
    """The slow rank gets fewer rows; the union of a step, and so its gradient, stay what they were."""
    size, count, seen = MPI.COMM_WORLD.size, 96, []
    x, y = next(batches(1, rows=count))
    net = linear()
    optimizer = loosestep.torch.parallel(net, torch.optim.SGD(net.parameters(), 0.1), ls.DBS(every=2))
    with optimizer:
        sampler = optimizer.shard(count, 24 // size, seed=3)
        for _ in range(3):
            for numbers in sampler:
                optimizer.zero_grad()
                loss = squares(net, (x[numbers], y[numbers]))
                loss.backward()
                optimizer.worker.computing += (
                    100.0 * len(numbers) * (1 + 2 * (rank() == 0))
                )  # real times are nothing
                optimizer.step()
                seen.append(numbers)
        shares = list(optimizer.worker.fractions)
    everybody = MPI.COMM_WORLD.allgather(seen)
    orders = [order_of(count, 3, epoch).tolist() for epoch in range(3)]
    steps = [order[start : start + 24] for order in orders for start in range(0, count, 24)]
    assert [list(chain(*parts)) for parts in zip(*everybody, strict=True)] == steps
    assert abs(shares[0] / shares[-1] - 1 / 3) < 0.01, shares
    alone = linear()
    plain = torch.optim.SGD(alone.parameters(), 0.1)
    for numbers in steps:
        plain.zero_grad()
        squares(alone, (x[numbers], y[numbers])).backward()
        plain.step()
    for ours, wanted in zip(net.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-12)
    return rank()


CASES: dict[str, Callable[[], int]] = {case.__name__: case for case in (schedule, resting, shared_out)}

if __name__ == "__main__":
    say(CASES)
