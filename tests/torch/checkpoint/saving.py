"""What a worker of a job saves, and where another one then begins."""

from __future__ import annotations

from typing import Any

import torch
from tests.torch.training import batches, momentum, seeded
from torch import nn

import loosestep as ls
import loosestep.torch


def values(optimizer: Any) -> Any:
    return torch.from_numpy(optimizer.layout.params).clone()


def saved_after(
    count: int, strategy: ls.Strategy, folder: str, on: ls.Transport, net: nn.Module | None = None
) -> Any:
    """The consensus of what was saved after so many steps."""
    net = net or seeded(0)
    optimizer = loosestep.torch.parallel(net, momentum(net.parameters()), strategy, on)
    sampler = optimizer.shard(48, batch_size=3)
    with optimizer:
        for x, y in batches(count):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x + optimizer.rank), y).backward()
            optimizer.step()
        optimizer.save(folder, sampler.state_dict())
        with optimizer.consensus():
            found = values(optimizer)
        optimizer.agreement.meet("load_state_dict()")  # whoever leaves may move the center once more
        return found


def begun_at(
    wanted: Any,
    strategy: ls.Strategy,
    folder: str,
    on: ls.Transport,
    net: nn.Module | None = None,
    rounding: float = 1e-6,
) -> None:
    net = net or seeded(1)
    optimizer = loosestep.torch.parallel(net, momentum(net.parameters()), strategy, on)
    sampler = optimizer.shard(48, batch_size=6)
    with optimizer:
        sampler.load_state_dict(optimizer.restore(folder))
        torch.testing.assert_close(values(optimizer), wanted, rtol=rounding, atol=1e-7)
        if strategy.synchronous or optimizer.size == 1:  # else others may have moved the center by now
            with optimizer.consensus():
                torch.testing.assert_close(values(optimizer), wanted, rtol=rounding, atol=1e-7)
        assert optimizer.worker.clock == 6
        for x, y in batches(6):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
        assert optimizer.worker.clock == 12
        optimizer.save(folder)
