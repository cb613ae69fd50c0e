"""Run by four ranks: two groups of two, with FSDP2 or DDP inside and a strategy between; the result is compared.

loosestep run -n 4 ranks_within.py fsdp 'LocalSGD(4)' FILE    where torch's ranks meet; beside it, a checkpoint
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import loosestep as ls
import loosestep.torch

STEPS, PERIOD = 12, 4


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return ((model(x) - y) ** 2).mean()


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.05)


def inside(kind: str, model: nn.Module, mesh: Any) -> nn.Module:
    """Return the model, parallel among the processes of a group."""
    if kind == "ddp":
        return nn.parallel.DistributedDataParallel(model, process_group=mesh.get_group())
    for layer in (model[0], model[2], model):  # type: ignore[index]
        fully_shard(layer, mesh=mesh)
    return model


def expected(x: Tensor, y: Tensor, period: int) -> dict[str, Tensor]:
    """What two replicas reach that see the rows of a group each, averaged after every period; 0: one sees all."""
    nets = [network(0)] if not period else [network(0), network(0)]
    optimizers = [adam(net) for net in nets]
    for step in range(STEPS):
        for net, optimizer, rows in zip(nets, optimizers, range(0, 4, 4 // len(nets)), strict=True):
            optimizer.zero_grad()
            mine = slice(rows, rows + 4 // len(nets))
            loss(net, x[step, mine], y[step, mine]).backward()
            optimizer.step()
        if period and (step + 1) % period == 0:
            state = [deepcopy(net.state_dict()) for net in nets]
            for net in nets:
                net.load_state_dict({name: (state[0][name] + state[1][name]) / 2 for name in state[0]})
    return dict(nets[0].state_dict())


STOPPED = 7  # inside a period, and inside an epoch


class Trained:
    """A process of a run: its model, its optimizer, and where its data stands."""

    def __init__(self, kind: str, strategy: ls.Strategy, mesh: Any, seed: int) -> None:
        self.model = inside(kind, network(seed), mesh)
        self.optimizer = loosestep.torch.parallel(self.model, adam(self.model), strategy, within=mesh)
        self.averaged = torch.optim.swa_utils.AveragedModel(nn.Linear(1, 1))  # stands for what is saved besides
        self.sampler = self.optimizer.shard(4 * STEPS, 1, shuffle=False)  # at each step a row for each process

    def steps(self, x: Tensor, y: Tensor, rows: Iterator[list[int]], count: int) -> None:
        for _, (row,) in zip(range(count), rows, strict=False):
            self.optimizer.zero_grad()
            loss(self.model, x[row // 4, row % 4], y[row // 4, row % 4]).backward()
            self.optimizer.step()

    def parameters(self, kind: str) -> dict[str, Tensor]:
        return {
            name.removeprefix("module."): (value.full_tensor() if kind == "fsdp" else value).clone()
            for name, value in self.model.state_dict().items()
        }


def check_agreement(trained: Trained, rank: int) -> None:
    """All processes get one answer, which is of all processes."""
    optimizer = trained.optimizer
    assert (optimizer.rank, optimizer.place) == divmod(rank, 2)
    assert optimizer.mean(float(rank)) == 1.5
    assert optimizer.mean(torch.full((2,), float(rank)), weight=float(rank == 3)).tolist() == [3, 3]
    assert optimizer.gather({"rank": rank}) == [{"rank": each} for each in range(4)]
    assert optimizer.agree(f"of {rank}") == "of 0"
    optimizer.barrier()
    x = torch.ones(2, 6)
    found: Any = optimizer.once(lambda: [rank, trained.model(x).sum().item()], everywhere=True)  # in a group
    assert found[0] == 0
    assert optimizer.gather(found) == [found] * 4
    alone = optimizer.once(lambda: rank)
    assert alone == (rank if rank < 2 else None), "those of worker 0"

    def fails() -> None:
        if rank == 1:
            raise ZeroDivisionError("boo")

    told = refused(lambda: optimizer.once(fails, everywhere=True))
    assert told == ("boo" if rank == 1 else "once() failed on process 1 of worker 0: ZeroDivisionError: boo")
    with optimizer.consensus():
        for call in (lambda: optimizer.save("nowhere"), optimizer.step):
            assert "inside consensus() or once() would take the consensus" in refused(call)


def refused(call: Callable[[], object]) -> str:
    """What a call raises, in words."""
    try:
        call()
    except Exception as error:
        return str(error)
    raise AssertionError("it was accepted")


def check_stopping(optimizer: Any, rank: int) -> None:
    """One process asks; all stop after one step."""
    assert not optimizer.stopping
    optimizer.barrier()
    if rank == 3:
        optimizer.stop()
    made = 0
    while not optimizer.stopping:
        optimizer.inner.zero_grad()
        optimizer.step()
        made += 1
        assert made < 200
    assert optimizer.gather(made) == [made] * 4


def main(kind: str, strategy: str, folder: str) -> None:
    world = loosestep.torch.world()
    place = Path(folder).absolute()
    distributed.init_process_group("gloo", init_method=f"file://{place}", rank=world.rank, world_size=world.size)
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("between", "within"))["within"]
    method = eval(f"ls.{strategy}")
    random = torch.Generator().manual_seed(5)
    x, y = (torch.randn(STEPS, 4, 5, width, generator=random) for width in (6, 3))
    checkpoint, rank = place.with_name("checkpoint"), world.rank
    one = Trained(kind, method, mesh, rank // 2)  # groups begin apart
    with one.optimizer as optimizer:
        rows = iter(one.sampler)
        one.steps(x, y, rows, STOPPED)
        one.averaged.n_averaged.fill_(rank)
        optimizer.save(checkpoint, {"steps": STOPPED}, also=[one.averaged, one.sampler])
        optimizer.load_state_dict(optimizer.state_dict())  # changes nothing
        check_agreement(one, rank)
        one.steps(x, y, rows, STEPS - STOPPED)
        whole = one.parameters(kind)
        with optimizer.consensus():
            found = one.parameters(kind)
        check_stopping(optimizer, rank)
    period = 0 if isinstance(method, ls.AllReduceSGD) else PERIOD
    for name, value in expected(x, y, period).items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)

    again = Trained(kind, method, mesh, 9)
    with again.optimizer as optimizer:
        assert optimizer.restore(checkpoint, also=[again.averaged, again.sampler]) == {"steps": STOPPED}
        assert again.averaged.n_averaged == rank
        again.steps(x, y, iter(again.sampler), STEPS)  # to the end of the epoch
        for name, value in again.parameters(kind).items():
            assert torch.equal(value, whole[name]), name
        mine = sorted(row for batch in optimizer.shard(40, 3, shuffle=False) for row in batch)
    print(f"rank {rank}: group {optimizer.rank} of {optimizer.size}, rows {mine[:2]}", flush=True)

    apart = Trained("ddp", method, init_device_mesh("cpu", (4, 1), mesh_dim_names=("a", "b"))["b"], 9)
    with apart.optimizer as optimizer:
        told = refused(lambda: optimizer.restore(checkpoint, also=[again.averaged, again.sampler]))
        assert told.endswith(
            "was written with optimizer AdamW of 2 groups of 2, this run has AdamW of 4 groups of 1"
        )
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
