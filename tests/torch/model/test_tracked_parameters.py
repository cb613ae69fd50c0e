"""Parameters that change after `parallel`: refused, or trained as in plain torch."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.torch.training import (  # noqa: E402
    adamw,
    assert_same_bits,
    left_behind,
    mlp,
    momentum,
    parallel,
    seeded,
    step,
)
from torch import nn  # noqa: E402
from torch.nn.utils import prune  # noqa: E402

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402

IDENTITIES = pytest.mark.parametrize("strategy", [ls.LocalSGD(2), ls.AllReduceSGD()], ids=repr)
EACH = pytest.mark.parametrize("strategy", [ls.LocalSGD(2), ls.AllReduceSGD(), ls.EASGD(2)], ids=repr)


@EACH
def test_unfrozen_later(strategy: ls.Strategy) -> None:
    net = mlp()
    net[0].requires_grad_(False)
    optimizer = parallel(net, strategy)
    step(net, optimizer)
    net[0].requires_grad_(True)
    with pytest.raises(RuntimeError, match=r"parameter '0.weight' requires a gradient, which it did not when"):
        step(net, optimizer)
    net[0].requires_grad_(False)  # it goes on where it was
    step(net, optimizer)
    assert optimizer.worker.clock == 2


@EACH
def test_added_later_to_the_wrapped_optimizer(strategy: ls.Strategy) -> None:
    net = mlp()
    optimizer = parallel(net, strategy, momentum(net[2].parameters()))
    optimizer.inner.add_param_group({"params": list(net[0].parameters())})
    with pytest.raises(RuntimeError, match=r"parameter '0.weight' came into the optimizer after parallel\(\)"):
        step(net, optimizer)


def test_taken_out_later() -> None:
    net = mlp()
    optimizer = parallel(net)
    optimizer.inner.param_groups[0]["params"].pop(1)
    with pytest.raises(RuntimeError, match=r"the optimizer no longer holds parameter '0.bias'"):
        step(net, optimizer)


@IDENTITIES
def test_frozen_later_and_trained_again_is_plain_torch(strategy: ls.Strategy) -> None:
    def trained(wrapped: bool) -> list[Any]:
        net = seeded(0)
        inner = adamw(list(net.parameters()))
        optimizer = parallel(net, strategy, inner) if wrapped else inner
        for number in range(9):
            net[0].requires_grad_(not 3 <= number < 6)
            before = net[0].weight.detach().clone()
            step(net, optimizer, number)
            assert torch.equal(before, net[0].weight) == (3 <= number < 6)
            assert (net[0].weight.grad is None) == (3 <= number < 6)
        return left_behind(net, inner)

    assert_same_bits(trained(True), trained(False))


@pytest.mark.parametrize("what", ["assigned", "a new layer", "set"])
def test_parameters_that_were_replaced(what: str) -> None:
    net = mlp()
    optimizer = parallel(net)
    step(net, optimizer)
    if what == "assigned":
        net.load_state_dict({name: value.clone() for name, value in mlp().state_dict().items()}, assign=True)
    elif what == "a new layer":
        net[0] = nn.Linear(5, 7)
    else:
        net[0].weight = nn.Parameter(net[0].weight.detach().clone())
    with pytest.raises(RuntimeError, match=r"parameter '0.weight' of the model was replaced after parallel\(\)"):
        step(net, optimizer)
    with pytest.raises(RuntimeError, match="was replaced"), optimizer.consensus():
        pass


def test_changes_that_leave_what_is_trained() -> None:
    """A layer more, a wrapper around one, a pruned one, a part that is gone."""
    net = nn.ModuleDict({"body": nn.Linear(5, 3), "aside": nn.Linear(2, 2), "kept": nn.Linear(3, 3)})
    optimizer = parallel(net)
    before = net["body"].weight.detach().clone()
    for change in (
        lambda: net.update({"more": nn.Linear(3, 3)}),
        lambda: net.update({"body": nn.Sequential(net["body"])}),
        lambda: prune.identity(net["kept"], "weight"),
        lambda: net.pop("aside"),
    ):
        change()
        optimizer.zero_grad()
        net["body"](torch.ones(2, 5)).sum().backward()
        optimizer.step()
    assert not torch.equal(net["body"][0].weight, before)


@pytest.mark.parametrize("compiled", [0, 1])
def test_compiled_or_not_names_are_the_same(compiled: int, tmp_path: Any) -> None:
    nets: list[Any] = [seeded(0), seeded(1)]
    nets[compiled] = torch.compile(nets[compiled], backend="eager")
    first, second = map(parallel, nets)
    step(nets[0], first)
    first.save(tmp_path)
    second.restore(tmp_path)
    assert_same_bits([param.detach() for param in nets[1].parameters()], list(nets[0].parameters()))
