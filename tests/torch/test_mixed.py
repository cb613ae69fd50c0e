"""Parameters of several dtypes: one worker is plain torch bit for bit, and slots are casts of parameters."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.torch.training import (  # noqa: E402
    OPTIMIZERS,
    STRATEGIES,
    HalfUsed,
    Mixed,
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
from loosestep.foundation.errors import CheckpointError  # noqa: E402

HALF, FULL, DOUBLE = torch.bfloat16, torch.float32, torch.float64
KINDS = {
    "half and full": (HALF, FULL),
    "full and double": (FULL, DOUBLE),
    "all": (HALF, FULL, DOUBLE),
    "half alone": (HALF, HALF),
}
each_mixture = pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)


def made(net: nn.Module, strategy: ls.Strategy, optimizer: Any = momentum) -> Any:
    return loosestep.torch.parallel(net, optimizer(list(net.parameters())), strategy, ls.Serial())


def steps(net: nn.Module, optimizer: Any, data: Any) -> None:
    for x, y in data:
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()


def check(strategy: ls.Strategy, make: Any = Mixed, **options: Any) -> None:
    training = Training(make=make, **options)
    assert_same_bits(training.run(strategy), training.run())


# --- one worker is plain torch -----------------------------------------------------------------------------


@each_strategy
@each_mixture
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(strategy: ls.Strategy, kinds: Any, name: str) -> None:
    check(strategy, lambda: Mixed(*kinds), optimizer=OPTIMIZERS[name])


@each_strategy
def test_both_half_types(strategy: ls.Strategy) -> None:
    check(strategy, lambda: Mixed(HALF, torch.float16))  # AdamW's epsilon is zero in float16, in torch too


@each_strategy
def test_accumulation_clipping_and_gradients_that_are_zeroed(strategy: ls.Strategy) -> None:
    check(strategy, accumulate=3, clip=0.05)
    check(strategy, set_to_none=False)


@each_strategy
def test_frozen_parameters_of_any_dtype(strategy: ls.Strategy) -> None:
    def make() -> nn.Module:
        net = Mixed()
        net.layers[0].requires_grad_(False)
        net.register_parameter("mask", nn.Parameter(torch.ones(3, dtype=torch.int8), requires_grad=False))
        net.register_buffer("seen", torch.ones(2, dtype=HALF))
        return net

    check(strategy, make)


class Tied(nn.Module):
    """A half layer that is used twice, before and after a full one."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.full = nn.Linear(5, 5, bias=False, dtype=HALF), nn.Linear(5, 5)
        self.again = nn.Linear(5, 5, bias=False, dtype=HALF)
        self.again.weight = self.small.weight

    def forward(self, x: Tensor) -> Tensor:
        inner = self.full(self.small(x.to(HALF)).float().tanh())
        out: Tensor = self.again(inner.to(HALF)).float()
        return out


@each_strategy
def test_tied_weights(strategy: ls.Strategy) -> None:
    check(strategy, Tied)


class Sliced(nn.Module):
    """A half parameter whose elements do not fill their memory, and a channels_last one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 10).to(HALF)[:, ::2])
        self.kernel = nn.Parameter(torch.randn(3, 4, 2, 2).to(HALF).to(memory_format=torch.channels_last))
        self.bias = nn.Parameter(torch.randn(3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x @ self.weight.float().t() + self.bias + self.kernel.float().square().sum((1, 2, 3))
        return out


@each_strategy
def test_strides(strategy: ls.Strategy) -> None:
    check(strategy, Sliced)


@each_strategy
def test_parameters_unused_in_a_step(strategy: ls.Strategy) -> None:
    check(strategy, lambda: HalfUsed(HALF), clip=0.1)


@each_strategy
@pytest.mark.parametrize("clip", [None, 0.1])
def test_a_scaler(strategy: ls.Strategy, clip: float | None) -> None:
    make = lambda: Mixed(HALF, FULL)  # noqa: E731
    ours, plain = (scaled(one, make, 3.0 * 2.0**120, clip) for one in (strategy, None))
    assert_same_bits(ours, plain)
    assert plain[-1] < 3.0 * 2.0**120  # it did overflow


# --- parameters and slots ----------------------------------------------------------------------------------


def test_slots_are_casts() -> None:
    net = Mixed()
    optimizer = made(net, ls.EASGD(4))
    steps(net, optimizer, batches(3))  # no exchange has moved the slots since they were brought in
    assert optimizer.worker.params.dtype == np.float64
    for slot in optimizer.layout.slots:
        assert (slot.cast is None) == (slot.param.dtype == DOUBLE)
        place = torch.from_numpy(optimizer.worker.params)[slot.start : slot.stop]
        assert torch.equal(place.view_as(slot.param), slot.param.double())


def test_one_dtype_has_no_casts() -> None:
    assert not made(mlp(), ls.LocalSGD(2)).layout.has_casts


@pytest.mark.parametrize("strategy", [*STRATEGIES, ls.EASGD(2, order="published")], ids=repr)
def test_what_a_user_writes_between_is_kept(strategy: ls.Strategy) -> None:
    """Weights that the user clips or decays by hand, through `.data`, after backward or after step."""

    def train(net: nn.Module, optimizer: Any) -> list[Tensor]:
        for x, y in batches(6):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            for param in net.parameters():
                param.data.mul_(0.5)
            optimizer.step()
            for param in net.parameters():
                param.data.clamp_(-0.25, 0.25)
        return [param.detach() for param in net.parameters()]

    def run(wrap: Any, *kinds: torch.dtype) -> list[Tensor]:
        torch.manual_seed(0)
        net = Mixed(*kinds)
        return train(net, wrap(net))

    def plain(net: nn.Module) -> Any:
        return torch.optim.SGD(net.parameters(), 0.1)

    def ours(net: nn.Module) -> Any:
        return made(net, strategy, lambda params: torch.optim.SGD(params, 0.1))

    found = run(ours, HALF, FULL)
    if strategy in STRATEGIES:
        assert_same_bits(found, run(plain, HALF, FULL))
    else:
        for a, b in zip(found, run(ours, FULL, FULL), strict=True):
            torch.testing.assert_close(a.float(), b, rtol=0.05, atol=0.02)


def test_a_model_that_was_moved() -> None:
    net = Mixed()
    optimizer = made(net, ls.LocalSGD(2))
    net.float()
    with pytest.raises(RuntimeError, match="the memory of parameter 'layers.0.weight' was replaced"):
        optimizer.step()


# --- strategies that move parameters -----------------------------------------------------------------------


@pytest.mark.parametrize("order", ["after", "published"])
def test_elastic_averaging_is_that_of_full_precision_to_rounding(order: Any) -> None:
    def run(kind: Any) -> list[Tensor]:
        torch.manual_seed(0)
        net = Mixed(kind, FULL)
        optimizer = made(net, ls.EASGD(period=3, moving_rate=0.25, order=order))
        with optimizer:
            steps(net, optimizer, batches(9))
            with optimizer.consensus():
                center = [param.detach().float().clone() for param in net.parameters()]
        return [param.detach().float().clone() for param in net.parameters()] + center

    for a, b in zip(run(HALF), run(FULL), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-2)


def test_a_consensus_is_for_a_while() -> None:
    net = Mixed(HALF, FULL)
    optimizer = made(net, ls.EASGD(2))
    with optimizer:
        steps(net, optimizer, batches(5))
        mine = [param.detach().clone() for param in net.parameters()]
        with optimizer.consensus():
            assert not torch.equal(net.layers[0].weight, mine[0])
            wanted = torch.from_numpy(optimizer.loop.program.out[: mine[0].numel()]).view_as(mine[0])
            assert torch.equal(net.layers[0].weight, wanted.to(HALF))
        assert_same_bits([param.detach() for param in net.parameters()], mine)


# --- saving ------------------------------------------------------------------------------------------------

SAVING = [ls.AllReduceSGD(), ls.LocalSGD(4), ls.EASGD(4), ls.SyncEASGD(4)]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("strategy", SAVING, ids=repr)
def test_state_dicts_and_folders_resume_to_the_same_bits(strategy: ls.Strategy, name: str, tmp_path: Path) -> None:
    def start(seed: int) -> tuple[nn.Module, Any]:
        torch.manual_seed(seed)
        net = Mixed(HALF, FULL)
        net.register_buffer("scale", torch.randn(3, dtype=HALF))
        return net, made(net, strategy, OPTIMIZERS[name])

    net, optimizer = start(0)
    data = list(batches(11))
    steps(net, optimizer, data[:6])
    optimizer.save(tmp_path)
    saved = copy.deepcopy((optimizer.state_dict(), net.state_dict()))
    steps(net, optimizer, data[6:])
    wanted = left_behind(net, optimizer.inner)

    other, resumed = start(1)
    assert resumed.restore(tmp_path) is None
    steps(other, resumed, data[6:])
    assert_same_bits(left_behind(other, resumed.inner), wanted)

    other, resumed = start(2)
    other.load_state_dict(saved[1])
    resumed.load_state_dict(saved[0])
    steps(other, resumed, data[6:])
    assert_same_bits(left_behind(other, resumed.inner), wanted)


def test_a_folder_of_other_dtypes_is_refused(tmp_path: Path) -> None:
    made(Mixed(HALF, FULL), ls.LocalSGD(4)).save(tmp_path)
    with pytest.raises(
        CheckpointError,
        match=r"tensor 0 'layers.0.weight' \(7, 5\) bfloat16, this run has 'layers.0.weight' \(7, 5\) float32$",
    ):
        made(Mixed(FULL, FULL), ls.LocalSGD(4)).restore(tmp_path)


# --- networks in loops of the library's --------------------------------------------------------------------


def test_a_network_in_run_equals_the_users_loop_with_one_dtype_a_step() -> None:
    """The library's own optimizer moves the flat buffer, and the network sees casts of it."""

    def make() -> nn.Module:
        torch.manual_seed(0)
        return Mixed(HALF, FULL)

    model = loosestep.torch.Model(make, lambda net, batch: nn.functional.cross_entropy(net(batch[0]), batch[1]))
    ((x, y),) = batches(1)
    loss, gradient = model.gradient(model.x0, (x, y))
    net = make()
    plain = nn.functional.cross_entropy(net(x), y)
    plain.backward()
    assert loss == float(plain.detach())
    for slot, param in zip(model.replica().layout.slots, net.parameters(), strict=True):
        np.testing.assert_array_equal(gradient[slot.start : slot.stop], param.grad.float().numpy().reshape(-1))
