"""Backward passes: thrown away, repeated, recomputed."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.torch.training import (  # noqa: E402
    assert_same_bits,
    backward,
    batches,
    left_behind,
    mlp,
    momentum,
    parallel,
    seeded,
)
from torch import nn  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402

IDENTITIES = pytest.mark.parametrize("strategy", [ls.LocalSGD(2), ls.AllReduceSGD()], ids=repr)


@IDENTITIES
@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("whose", ["model", "optimizer"])
def test_gradients_that_are_thrown_away(strategy: ls.Strategy, whose: str, set_to_none: bool) -> None:
    """One worker's loop is plain torch's: a pass that zero_grad() undoes counts for nothing."""

    def trained(wrapped: bool) -> list[Any]:
        net = seeded(0)
        inner = momentum(net.parameters())
        optimizer = parallel(net, strategy, inner, accumulate=2) if wrapped else inner
        for number in range(5):
            for _ in range(3):  # somebody else's loss
                backward(net, 7)
                (net if whose == "model" else optimizer).zero_grad(set_to_none=set_to_none)
            backward(net, number)
            backward(net, number + 1)
            optimizer.step()
            optimizer.zero_grad()
        return left_behind(net, inner)

    assert_same_bits(trained(True), trained(False))


def test_a_gan_of_one_worker() -> None:
    """The discriminator's zero_grad() comes after the generator's pass, as in every tutorial."""

    def trained(wrapped: bool) -> list[Any]:
        torch.manual_seed(0)
        nets = nn.Linear(4, 5), nn.Linear(5, 1)
        inners = [momentum(net.parameters()) for net in nets]
        g, d = inners
        if wrapped:
            g, d = (parallel(net, ls.AllReduceSGD(), inner) for net, inner in zip(nets, inners, strict=True))
        for _ in range(4):
            fake = nets[0](torch.randn(3, 4))
            d.zero_grad()
            (nets[1](fake.detach()).mean() - nets[1](torch.randn(3, 5)).mean()).backward()
            d.step()
            g.zero_grad()
            (-nets[1](fake).mean()).backward()
            g.step()
            if wrapped:
                d.once(lambda: None)  # between d's steps, though a pass has gone through it
        return left_behind(nets[0], inners[0]) + left_behind(nets[1], inners[1])

    assert_same_bits(trained(True), trained(False))


def test_the_remedy_for_too_many_passes() -> None:
    net = mlp()
    parallel(net)
    backward(net)
    with pytest.raises(RuntimeError, match=r"accumulate=2\), which is 1, if so many make a step; a loss"):
        backward(net)


@IDENTITIES
def test_recomputation_that_runs_backward_within_backward(strategy: ls.Strategy) -> None:
    def trained(wrapped: bool) -> list[Any]:
        net = seeded(0)
        inner = momentum(net.parameters())
        optimizer = parallel(net, strategy, inner) if wrapped else inner
        for x, _ in batches(4):
            optimizer.zero_grad()
            y = x.requires_grad_(True)
            for _ in range(3):
                y = checkpoint(lambda h: torch.cat([net(h), h[:, :2]], 1), y, use_reentrant=True)
            y.pow(2).mean().backward()
            optimizer.step()
        return left_behind(net, inner)

    assert_same_bits(trained(True), trained(False))


def test_batches_are_counted_once_though_passes_are_many() -> None:
    net = mlp()
    optimizer = parallel(net, accumulate=3)
    sampler = optimizer.shard(120, 4)
    loader = iter(sampler)
    for _ in range(6):
        next(loader)
        optimizer.zero_grad()
        for _ in range(3):  # several losses of one batch
            backward(net)
        optimizer.step()
    assert sampler.state_dict()["used"] == 24
