"""One worker under AllReduceSGD, LocalSGD or CDSGD is plain torch, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.torch.training import (  # noqa: E402
    OPTIMIZERS,
    HalfUsed,
    Training,
    assert_same_bits,
    batches,
    each_strategy,
    left_behind,
    mlp,
    momentum,
    scaled,
)
from torch import Tensor, nn  # noqa: E402

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402


def compiled(net: nn.Module) -> Any:
    """Graphs and one node of backward, as always; what a backend makes of them is torch's own, and is slow."""
    return torch.compile(net, backend="aot_eager")


def check(training: Training, strategy: ls.Strategy) -> None:
    assert_same_bits(training.run(strategy), training.run())


@each_strategy
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_and_accumulation(strategy: ls.Strategy, accumulate: int, name: str) -> None:
    check(Training(optimizer=OPTIMIZERS[name], accumulate=accumulate), strategy)


@each_strategy
def test_a_scheduler_on_ours(strategy: ls.Strategy) -> None:
    make = lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)  # noqa: E731
    check(Training(scheduler=make), strategy)


@each_strategy
def test_clipping_after_synchronize(strategy: ls.Strategy) -> None:
    check(Training(clip=0.05), strategy)


@each_strategy
def test_gradients_that_are_zeroed_and_not_forgotten(strategy: ls.Strategy) -> None:
    check(Training(set_to_none=False, make=HalfUsed), strategy)


@each_strategy
def test_float64(strategy: ls.Strategy) -> None:
    make = lambda: mlp().double()  # noqa: E731
    check(Training(make=make, loss=lambda net, x, y: nn.functional.cross_entropy(net(x.double()), y)), strategy)


@each_strategy
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parameters_unused_in_a_step(strategy: ls.Strategy, name: str) -> None:
    check(Training(make=HalfUsed, optimizer=OPTIMIZERS[name], clip=0.1), strategy)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inward, self.outward = nn.Linear(5, 5, bias=False), nn.Linear(5, 5, bias=False)
        self.outward.weight = self.inward.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.outward(self.inward(x).tanh())


@each_strategy
def test_tied_weights(strategy: ls.Strategy) -> None:
    check(Training(make=Tied), strategy)


@each_strategy
def test_frozen_parameters(strategy: ls.Strategy) -> None:
    def make() -> nn.Module:
        net = mlp()
        net[0].requires_grad_(False)
        return net

    check(Training(make=make), strategy)


def convolution() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 3))
    return net.to(memory_format=torch.channels_last)


@each_strategy
def test_channels_last_and_batch_norm(strategy: ls.Strategy) -> None:
    check(Training(make=convolution, shape=(4, 6, 6)), strategy)


def test_strides_are_kept() -> None:
    net = convolution()
    before = {name: param.stride() for name, param in net.named_parameters()}
    optimizer = loosestep.torch.parallel(net, momentum(net.parameters()), ls.LocalSGD(), ls.Serial())
    assert all(slot.grad.stride() == slot.param.stride() for slot in optimizer.layout.slots)
    assert {name: param.stride() for name, param in net.named_parameters()} == before
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)


@each_strategy
def test_several_groups(strategy: ls.Strategy) -> None:
    def groups(params: Any) -> Any:
        return torch.optim.SGD([{"params": params[:2], "lr": 0.01}, {"params": params[2:]}], 0.2, momentum=0.5)

    check(Training(optimizer=groups), strategy)


@each_strategy
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("clip", [None, 0.1])
def test_autocast_and_a_scaler(strategy: ls.Strategy, dtype: Any, clip: float | None) -> None:
    def loss(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=dtype):
            return nn.functional.cross_entropy(net(x), y)

    ours, plain = (scaled(one, mlp, 2.0**120, clip, loss) for one in (strategy, None))
    assert_same_bits(ours, plain)
    assert plain[-1] < 2.0**120  # it did overflow


@pytest.mark.filterwarnings("ignore")  # the compiler's own
@each_strategy
def test_compiled_models(strategy: ls.Strategy) -> None:
    def make() -> nn.Module:
        return compiled(mlp())

    try:
        compiled(mlp())(torch.zeros(1, 5))
    except Exception as error:
        pytest.skip(f"torch.compile does not work here: {error!s:.200}")
    check(Training(make=make, steps=6), strategy)


def test_a_closure() -> None:
    def run(ours: bool) -> list[Tensor]:
        torch.manual_seed(0)
        net = mlp()
        inner = optimizer = momentum(net.parameters())
        if ours:
            optimizer = loosestep.torch.parallel(net, inner, ls.LocalSGD(2), ls.Serial())
        for x, y in batches(5):

            def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(net(x), y)
                loss.backward()
                return loss

            assert optimizer.step(closure) > 0
        return left_behind(net, inner)

    assert_same_bits(run(True), run(False))


def test_a_users_own_zeroing_of_the_model() -> None:
    def run(ours: bool) -> list[Tensor]:
        torch.manual_seed(0)
        net = HalfUsed()
        inner = optimizer = momentum(net.parameters())
        if ours:
            optimizer = loosestep.torch.parallel(net, inner, ls.AllReduceSGD(), ls.Serial())
        for x, y in batches(7):
            net.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
        return left_behind(net, inner)

    assert_same_bits(run(True), run(False))


def test_easgd_is_its_own_recursion() -> None:
    """Zhang et al., algorithm 1, with one worker: three steps alone, then x and c move towards each other."""
    torch.manual_seed(0)
    net = mlp()
    x, c = ([param.detach().clone() for param in net.parameters()] for _ in range(2))
    inner = torch.optim.SGD(net.parameters(), 0.1)
    optimizer = loosestep.torch.parallel(net, inner, ls.EASGD(period=3, moving_rate=0.25), ls.Serial())
    with optimizer:
        for step, (rows, labels) in enumerate(batches(9), 1):
            copy = mlp()
            for param, value in zip(copy.parameters(), x, strict=True):
                param.data.copy_(value)
            nn.functional.cross_entropy(copy(rows), labels).backward()
            x = [value - 0.1 * param.grad for value, param in zip(x, copy.parameters(), strict=True)]
            if step % 3 == 0:
                moves = [0.25 * (a - b) for a, b in zip(x, c, strict=True)]
                x = [a - move for a, move in zip(x, moves, strict=True)]
                c = [b + move for b, move in zip(c, moves, strict=True)]
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(rows), labels).backward()
            optimizer.step()
            for param, value in zip(net.parameters(), x, strict=True):
                torch.testing.assert_close(param.data, value, rtol=0, atol=1e-6)
        with optimizer.consensus():
            for param, value in zip(net.parameters(), c, strict=True):
                torch.testing.assert_close(param.data, value, rtol=0, atol=1e-6)
        for param, value in zip(net.parameters(), x, strict=True):
            torch.testing.assert_close(param.data, value, rtol=0, atol=1e-6)
