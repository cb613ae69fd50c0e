"""What an open parallel() registers with torch: removed by close(), and never copied with a model."""

from __future__ import annotations

import copy
import io

import pytest

torch = pytest.importorskip("torch")

from tests.torch.training import (  # noqa: E402
    assert_same_bits,
    backward,
    left_behind,
    mlp,
    momentum,
    parallel,
    seeded,
    step,
)
from torch import nn  # noqa: E402

import loosestep as ls  # noqa: E402
import loosestep.torch  # noqa: E402
from loosestep.strategies.base import Need  # noqa: E402

EACH = pytest.mark.parametrize("strategy", [ls.LocalSGD(2), ls.AllReduceSGD(), ls.EASGD(2)], ids=repr)


@EACH
def test_a_model_is_a_plain_one_after_close(strategy: ls.Strategy) -> None:
    net, plain = seeded(0), seeded(0)
    with parallel(net, strategy) as optimizer:
        step(net, optimizer)
    plain.load_state_dict(net.state_dict())
    inner, other = momentum(net.parameters()), momentum(plain.parameters())
    for number in range(3):
        for model, its in ((net, inner), (plain, other)):
            step(model, its, number)
            backward(model)  # no step, no count
    assert_same_bits(left_behind(net, inner), left_behind(plain, other))
    assert not any(module._forward_pre_hooks for module in net.modules())
    assert not any(param._post_accumulate_grad_hooks for param in net.parameters())


def test_one_parallel_after_another() -> None:
    net = mlp()
    first = parallel(net, inner=momentum(net[2].parameters()))
    step(net, first)
    with pytest.raises(RuntimeError, match=r"parameter '2.weight' already belongs to another parallel\(\)"):
        parallel(net)
    first.close()
    second = parallel(net)
    before = net[0].weight.detach().clone()
    step(net, second)
    assert not torch.equal(before, net[0].weight)
    with pytest.raises(RuntimeError, match="after close.. another parallel.. may have it"):
        first.tracked.check()


def test_two_models_that_share_a_part() -> None:
    shared = nn.Linear(4, 4)
    one, other = nn.Sequential(shared, nn.Linear(4, 1)), nn.Sequential(nn.Linear(4, 1), shared)
    parallel(one)
    with pytest.raises(RuntimeError, match=r"'1.weight' already belongs .* only one of their optimizers"):
        parallel(other)


def test_what_is_gone_is_not_open() -> None:
    net = mlp()
    parallel(net)
    del net
    import gc

    gc.collect()
    net = mlp()
    step(net, parallel(net))


@pytest.mark.parametrize("strategy", [ls.DBS(), ls.AdaptiveLocalSGD(distance=None, time_share=0.5)], ids=repr)
def test_copies_of_a_model_carry_nothing(strategy: ls.Strategy) -> None:
    net = mlp()
    optimizer = parallel(net, strategy)
    sampler = iter(optimizer.shard(32, 8) if optimizer.needs & {Need.GLOBAL_BATCHES} else [0, 1])
    next(sampler)
    step(net, optimizer)
    assert optimizer.worker.computing > 0, "times are measured from the forward pass"
    file = io.BytesIO()
    torch.save(net, file)
    assert b"loosestep" not in file.getvalue()
    averaged = torch.optim.swa_utils.AveragedModel(net)
    for copied in (copy.deepcopy(net), averaged, torch.load(io.BytesIO(file.getvalue()), weights_only=False)):
        copied(torch.ones(2, 5)).sum().backward()
    optimizer.close()
