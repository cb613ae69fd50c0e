"""A proximal term in a torch loop: one worker of Parle or Entropy-SGD is the same loop written by hand."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.torch.training import OPTIMIZERS, HalfUsed, Mixed, Training, assert_same_bits, batches, mlp  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402

PULL, KEEP, RATE, MU, LOOP = 0.3, 0.75, 0.5, 0.6, 3
SETTINGS: dict[str, Any] = {"pull": PULL, "averaging": KEEP, "rate": RATE, "momentum": MU}
STRATEGIES = [ls.Parle(LOOP, **SETTINGS), ls.EntropySGD(LOOP, **SETTINGS)]
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


class ByHand(torch.optim.Optimizer):
    """The recursion of one worker, around a torch optimizer; every product and sum is rounded by itself."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        self.inner = inner
        self.params = inner.param_groups[0]["params"]
        super().__init__(self.params, {})
        self.anchors, self.means = ([p.detach().clone() for p in self.params] for _ in range(2))
        self.velocities = [torch.zeros_like(p) for p in self.params]
        self.steps = 0

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.inner.zero_grad(set_to_none)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for p, anchor in zip(self.params, self.anchors, strict=True):
            gradient = torch.zeros_like(p) if p.grad is None else p.grad
            p.grad = gradient + PULL * (p - anchor)
        self.inner.step()
        for p, mean in zip(self.params, self.means, strict=True):
            mean.copy_(KEEP * mean + (1 - KEEP) * p)
        self.steps += 1
        if self.steps % LOOP == 0:
            self.outer()

    def outer(self) -> None:
        for p, x, z, v in zip(self.params, self.anchors, self.means, self.velocities, strict=True):
            move = RATE * (x - z)
            v.copy_(MU * v - move)
            x.add_(MU * v - move)
            z.copy_(x)
            p.copy_(x)


def check(training: Training, strategy: ls.Strategy) -> None:
    training.steps = 4 * LOOP  # a loop that the end of the data cuts short would end in an outer step
    found = training.run(strategy)
    inner = training.optimizer
    training.optimizer = lambda params: ByHand(inner(params))
    wanted = training.run()
    assert_same_bits(found[: len(wanted)], wanted)


@every_strategy
@every_optimizer
def test_one_worker_is_the_loop_by_hand(strategy: ls.Strategy, name: str) -> None:
    check(Training(optimizer=OPTIMIZERS[name]), strategy)


@every_strategy
def test_clipping_comes_before_the_pull(strategy: ls.Strategy) -> None:
    check(Training(clip=0.05, accumulate=2), strategy)


@every_strategy
def test_gradients_that_are_zeroed_and_not_forgotten(strategy: ls.Strategy) -> None:
    check(Training(set_to_none=False, make=HalfUsed), strategy)


@every_strategy
@every_optimizer
def test_parameters_unused_in_a_step_move_to_the_anchor(strategy: ls.Strategy, name: str) -> None:
    check(Training(make=HalfUsed, optimizer=OPTIMIZERS[name]), strategy)


@every_strategy
def test_half_precision_follows_full_precision(strategy: ls.Strategy) -> None:
    def run(kind: torch.dtype) -> list[Tensor]:
        torch.manual_seed(0)
        net = Mixed(kind, torch.float32)
        inner = torch.optim.SGD(net.parameters(), 0.05)
        with loosestep.torch.parallel(net, inner, strategy, ls.Serial()) as optimizer:
            for x, y in batches(9):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(x), y).backward()
                optimizer.step()
        return [param.detach().float() for param in net.parameters()]

    for half, full in zip(run(torch.bfloat16), run(torch.float32), strict=True):
        torch.testing.assert_close(half, full, rtol=0, atol=2e-2)


def test_the_gradient_at_the_anchor_needs_a_loop_of_the_librarys() -> None:
    net = mlp()
    with pytest.raises(TypeError, match=r"rho=0.5\) needs an update of its own, .*use loosestep.run"):
        loosestep.torch.parallel(net, torch.optim.SGD(net.parameters()), ls.EntropySGD(rho=0.5), ls.Serial())
