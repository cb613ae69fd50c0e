"""What one process holds of a model of several: plain parameters of its names, the rest, the optimizer's state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.torch.training import adamw, seeded, step  # noqa: E402
from torch import distributed, nn  # noqa: E402

from loosestep.torch.shared_state import sparse_of  # noqa: E402
from loosestep.torch.within.dtensors import parts_of, whole_of  # noqa: E402
from loosestep.torch.within.shards import Delegate, Shards  # noqa: E402


def model() -> Any:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    net[0].bias.requires_grad_(False)
    return net


def held(net: nn.Module, *names: str) -> tuple[Shards, torch.optim.Optimizer]:
    params = [param for name, param in net.named_parameters() if name in names]
    inner = torch.optim.SGD(params, lr=0.1, momentum=0.9)
    return Shards(net, inner), inner


def test_parameters_have_their_names_and_everything_else_is_the_rest() -> None:
    net = model()
    shards, _ = held(net, "0.weight", "0.bias", "2.weight")
    found = dict(shards.named_parameters())
    assert sorted(found) == ["0.bias", "0.weight", "2.weight"]
    assert [name for name, param in found.items() if not param.requires_grad] == ["0.bias"]
    rest = ["1.bias", "1.num_batches_tracked", "1.running_mean", "1.running_var", "1.weight", "2.bias"]
    assert sorted(shards.rest()) == rest
    state = {name: value.clone() for name, value in shards.get_extra_state().items()}
    net[1].running_mean.add_(3)
    shards.set_extra_state(state)
    assert net[1].running_mean.abs().max() == 0


def test_values_go_both_ways() -> None:
    net = model()
    shards, _ = held(net, "2.weight")
    with torch.no_grad():
        net[2].weight.fill_(5)
    shards.from_model()
    (shard,) = shards.parameters()
    assert (shard == 5).all()
    with torch.no_grad():
        shard.fill_(7)
    shards.to_model()
    assert (net[2].weight == 7).all()


def test_gradients_go_both_ways_sparse_and_dense_and_where_a_group_had_none() -> None:
    net = nn.ModuleDict(
        {
            "rows": nn.Embedding(4, 2, sparse=True),
            "dense": nn.Linear(2, 2, False),
            "unused": nn.Linear(2, 1, False),
        }
    )
    shards, _ = held(net, *dict(net.named_parameters()))
    assert sparse_of(shards) == {shards.get_parameter("rows.weight")}
    net["dense"](net["rows"](torch.tensor([1, 3, 1]))).sum().backward()
    shards.take_gradients()
    mine = dict(shards.named_parameters())
    assert mine["rows.weight"].grad.coalesce().indices()[0].tolist() == [1, 3]
    mine["rows.weight"].grad = torch.eye(4)[[0, 2]].sum(0).mul(5).expand(2, 4).T.to_sparse(1)
    mine["dense.weight"].grad.fill_(6)
    mine["unused.weight"].grad = torch.full((1, 2), 7.0)
    shards.give_gradients()
    assert net["rows"].weight.grad.is_sparse
    assert net["rows"].weight.grad.to_dense()[:, 0].tolist() == [5, 0, 5, 0]
    assert (net["dense"].weight.grad == 6).all()
    assert (net["unused"].weight.grad == 7).all()


def test_what_is_frozen_rests_and_what_is_new_is_refused() -> None:
    net = model()
    shards, inner = held(net, "2.weight")
    net[2].weight.requires_grad_(False)
    shards.check(inner)
    assert not shards.of[net[2].weight].requires_grad
    inner.add_param_group({"params": [net[2].bias]})
    with pytest.raises(RuntimeError, match="the parameter '2.bias' came into the optimizer after parallel"):
        shards.check(inner)


def test_the_state_is_that_of_the_models_optimizer() -> None:
    nets = [seeded(0), seeded(0)]
    inners = [adamw(net.parameters()) for net in nets]
    step(nets[0], inners[0])
    one, other = (Delegate(Shards(net, inner), inner) for net, inner in zip(nets, inners, strict=True))
    other.load_state_dict(one.state_dict())
    for mine, theirs in zip(inners[0].state.values(), inners[1].state.values(), strict=True):
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_divided_tensor_is_put_together_again(tmp_path: Path) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Partial, Replicate, Shard, distribute_tensor

    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/m", rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        values = torch.arange(6.0).reshape(3, 2)
        for placement in (Shard(0), Shard(1), Replicate()):
            param = distribute_tensor(values, mesh, [placement])
            parts = parts_of({"a": param, "step": 3})
            assert type(parts["a"]["local"]) is torch.Tensor
            whole = whole_of(parts, param)
            assert whole["step"] == 3
            assert whole["a"].placements == (placement,)
            assert torch.equal(whole["a"].full_tensor(), values)
        partial = type(param).from_local(values, mesh, [Partial()])
        with pytest.raises(TypeError, match="cannot write a tensor that is divided by"):
            parts_of(partial)
    finally:
        distributed.destroy_process_group()
