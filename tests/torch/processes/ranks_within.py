"""Run by four ranks: two groups of two, with FSDP2 or DDP inside and a strategy between; the result is compared.

loosestep run -n 4 ranks_within.py fsdp 'LocalSGD(4)' FILE    FILE: where torch.distributed's ranks meet
"""

from __future__ import annotations

import sys
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


def main(kind: str, strategy: str, file: str) -> None:
    world = loosestep.torch.world()
    meeting = f"file://{Path(file).absolute()}"
    distributed.init_process_group("gloo", init_method=meeting, rank=world.rank, world_size=world.size)
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("between", "within"))
    model = inside(kind, network(world.rank // 2), mesh["within"])  # groups begin apart
    method = eval(f"ls.{strategy}")
    optimizer = loosestep.torch.parallel(model, adam(model), method, within=mesh["within"])
    random = torch.Generator().manual_seed(5)
    x, y = (torch.randn(STEPS, 4, 5, width, generator=random) for width in (6, 3))
    with optimizer:
        for step in range(STEPS):
            optimizer.zero_grad()
            loss(model, x[step, world.rank], y[step, world.rank]).backward()
            optimizer.step()
        with optimizer.consensus():
            found = {
                name.removeprefix("module."): (value.full_tensor() if kind == "fsdp" else value).clone()
                for name, value in model.state_dict().items()
            }
    period = 0 if isinstance(method, ls.AllReduceSGD) else PERIOD
    for name, value in expected(x, y, period).items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
    rows = sorted(row for batch in optimizer.shard(40, 3, shuffle=False) for row in batch)
    print(f"rank {world.rank}: group {optimizer.rank} of {optimizer.size}, rows {rows[:2]}", flush=True)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
