"""The same training, in plain torch and under a strategy: what both leave behind can be compared bit for bit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import loosestep as ls
import loosestep.torch

torch.set_num_threads(1)  # tests share the processors

STRATEGIES = [
    ls.AllReduceSGD(),
    ls.AllReduceSGD(bucket_bytes=64, first_bytes=20),
    ls.LocalSGD(period=4),
    ls.CDSGD(),
]
each_strategy = pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
DRAWING = threading.Lock()
MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))


def seeded(seed: int) -> nn.Module:
    """The MLP of a seed, in threads as well: torch has one generator for all of them."""
    with DRAWING:
        torch.manual_seed(seed)
        return mlp()


class HalfUsed(nn.Module):
    """The second branch, of `dtype`, takes part in every third batch only."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.first, self.second, self.dtype = nn.Linear(5, 3), nn.Linear(5, 3, dtype=dtype), dtype
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        first: Tensor = self.first(x)
        return first + self.second(x.to(self.dtype)).float() if self.calls % 3 == 0 else first


class Mixed(nn.Module):
    """Linear layers, one of each dtype; what goes between them is cast."""

    def __init__(self, *kinds: torch.dtype) -> None:
        super().__init__()
        kinds = kinds or (torch.bfloat16, torch.float32, torch.float64)
        widths = [5, *[7] * (len(kinds) - 1), 3]
        sizes = zip(widths[:-1], widths[1:], kinds, strict=True)
        self.layers = nn.ModuleList([nn.Linear(here, there, dtype=kind) for here, there, kind in sizes])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x.to(layer.weight.dtype)).tanh()
        return x.float()


def momentum(params: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, 0.1, momentum=0.9, weight_decay=1e-3)


def nesterov(params: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, 0.1, momentum=0.9, nesterov=True, weight_decay=1e-3)


def adamw(params: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(params, 0.01)


OPTIMIZERS: dict[str, MakeOptimizer] = {"momentum": momentum, "nesterov": nesterov, "adamw": adamw}


def batches(count: int, shape: tuple[int, ...] = (5,), rows: int = 8) -> Iterator[tuple[Tensor, Tensor]]:
    """Always the same random ones, of three classes."""
    random = torch.Generator().manual_seed(1)
    for _ in range(count):
        yield torch.randn(rows, *shape, generator=random), torch.randint(0, 3, (rows,), generator=random)


def loss_of(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return nn.functional.cross_entropy(net(x), y)


def parallel(
    net: nn.Module | None = None, strategy: ls.Strategy | None = None, inner: Any = None, **options: Any
) -> Any:
    """Return an optimizer of one worker for a network, which is an MLP if none is given."""
    net = net or mlp()
    inner = inner or momentum(net.parameters())
    return loosestep.torch.parallel(net, inner, strategy or ls.LocalSGD(2), ls.Serial(), **options)


def backward(net: nn.Module, number: int = 0) -> None:
    """Take the gradient of one of the batches."""
    x, y = list(batches(number + 1))[number]
    loss_of(net, x, y).backward()


def step(net: nn.Module, optimizer: Any, number: int = 0) -> None:
    """Make a step on one of the batches."""
    optimizer.zero_grad()
    backward(net, number)
    optimizer.step()


def train(net: nn.Module, optimizer: Any, data: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Make a step on each batch."""
    for x, y in data:
        optimizer.zero_grad()
        loss_of(net, x, y).backward()
        optimizer.step()


def normalized() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))


def complex_network() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7, dtype=torch.complex64))


@dataclass
class Training:
    """One network, one optimizer, and how they are used."""

    make: Callable[[], nn.Module] = mlp
    optimizer: MakeOptimizer = momentum
    shape: tuple[int, ...] = (5,)
    steps: int = 10
    accumulate: int = 1
    clip: float | None = None
    scheduler: Callable[[torch.optim.Optimizer], Any] | None = None
    loss: Callable[[nn.Module, Tensor, Tensor], Tensor] = loss_of
    set_to_none: bool = True
    options: dict[str, Any] = field(default_factory=dict)

    def run(self, strategy: ls.Strategy | None = None) -> list[Tensor]:
        """Train; returns all parameters and buffers, and the state of the optimizer."""
        torch.manual_seed(0)
        net = self.make()
        inner = self.optimizer(list(net.parameters()))
        if strategy is None:
            self.loop(net, inner, None)
        else:
            options = {"accumulate": self.accumulate, **self.options}
            ours = loosestep.torch.parallel(net, inner, strategy, ls.Serial(), **options)
            with ours:
                self.loop(net, ours, ours)
        return left_behind(net, inner)

    def loop(self, net: nn.Module, optimizer: torch.optim.Optimizer, ours: Any) -> None:
        scheduler = self.scheduler(optimizer) if self.scheduler else None
        data = batches(self.steps * self.accumulate, self.shape)
        for _ in range(self.steps):
            optimizer.zero_grad(set_to_none=self.set_to_none)
            for _ in range(self.accumulate):
                (self.loss(net, *next(data)) / self.accumulate).backward()
            if self.clip is not None:
                if ours is not None:
                    ours.synchronize()
                nn.utils.clip_grad_norm_(net.parameters(), self.clip)
            optimizer.step()
            if scheduler is not None:
                scheduler.step()


def left_behind(net: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    tensors = [tensor.detach().clone() for tensor in net.state_dict().values()]
    for state in optimizer.state_dict()["state"].values():
        tensors += [value.clone() for _, value in sorted(state.items()) if isinstance(value, Tensor)]
    return tensors


def assert_same_bits(one: list[Tensor], other: list[Tensor]) -> None:
    assert len(one) == len(other)
    for number, (a, b) in enumerate(zip(one, other, strict=True)):
        assert a.dtype == b.dtype
        assert torch.equal(a, b), f"tensor {number}: {(a - b).abs().max()} apart"


def scaled(
    strategy: ls.Strategy | None,
    make: Callable[[], nn.Module],
    scale: float,
    clip: float | None,
    loss: Callable[[nn.Module, Tensor, Tensor], Tensor] = lambda net, x, y: nn.functional.cross_entropy(net(x), y),
) -> list[Tensor]:
    """What 20 steps under a scaler leave behind, the last its scale; in plain torch where there is no strategy."""
    torch.manual_seed(0)
    net = make()
    inner = momentum(net.parameters())
    parallel = loosestep.torch.parallel(net, inner, strategy, ls.Serial()) if strategy is not None else None
    optimizer: Any = parallel or inner
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=3)  # the first ones overflow
    for x, y in batches(20):
        optimizer.zero_grad()
        scaler.scale(loss(net, x, y) * 2.0**10).backward()
        if clip is not None:
            if parallel is not None:
                parallel.synchronize()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        scaler.step(optimizer)
        scaler.update()
    return [*left_behind(net, inner), torch.tensor(scaler.get_scale())]
