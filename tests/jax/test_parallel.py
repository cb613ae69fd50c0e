"""A JAX loop of the user's with one worker: bits, strategies, dtypes, optax's transformations."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

pytest.importorskip("jax")
pytest.importorskip("optax")

import jax
import jax.numpy as jnp
import optax
from tests.contract.parametrize import EPOCH, EXAMPLES
from tests.jax.training import (
    ADAM,
    FOLLOWED,
    MOMENTUM,
    START,
    batches,
    flat,
    gradient,
    parallel,
    plain,
    same_bits,
    start,
    train,
)

import loosestep as ls
import loosestep.jax
from loosestep.runtime.user_loop import SUPPORTED_NEEDS

PARTITION: Any = getattr(optax, "partition", None) or optax.multi_transform  # its name before 0.2.4
IDENTITIES = [ls.AllReduceSGD(), ls.AllReduceSGD(bucket_bytes=8, first_bytes=8), ls.LocalSGD(3), ls.CDSGD()]


@pytest.mark.parametrize("strategy", IDENTITIES, ids=repr)
@pytest.mark.parametrize("optimizer", [MOMENTUM, ADAM], ids=["momentum", "adam"])
def test_one_worker_is_plain_optax(optimizer: Any, strategy: ls.Strategy) -> None:
    with parallel(strategy, optimizer) as trainer:
        train(trainer, batches(10))
    assert same_bits(trainer.params, plain(optimizer, batches(10)))
    assert same_bits(trainer.params, trainer.consensus())


@pytest.mark.parametrize("strategy", EXAMPLES, ids=repr)
def test_every_strategy_trains(strategy: ls.Strategy) -> None:
    """With the numbers of the torch adapter, if torch is there."""
    if strategy.needs - SUPPORTED_NEEDS:
        with pytest.raises(TypeError, match="which a loop of your own cannot give"):
            parallel(strategy)
        return
    trainer = parallel(strategy, FOLLOWED, steps_per_epoch=EPOCH)
    with trainer:
        for _, each in zip(shard_of(trainer), batches(10), strict=False):
            train(trainer, [each])
    ours = flat(trainer.consensus())
    assert np.isfinite(ours).all()
    assert not np.array_equal(ours, flat(START))
    pytest.importorskip("torch")
    cuts = getattr(strategy, "fragments", 1) > 1  # of flat buffers, which torch's pads
    if not (cuts or strategy.shared_buffers):  # torch keeps other promises there
        np.testing.assert_allclose(ours, of_torch(strategy), rtol=1e-5, atol=1e-6)


def shard_of(trainer: Any) -> Any:
    """Rows for strategies that deal them, as many batches as there are."""
    return trainer.shard(80, batch_size=8)


def of_torch(strategy: ls.Strategy) -> Any:
    """The same training by `loosestep.torch`."""
    import torch

    from loosestep.torch import parallel as parallel_torch

    net = torch.nn.Linear(3, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor(START["weight"].T.copy()))
        net.bias.copy_(torch.tensor(START["bias"]))
    inner = torch.optim.SGD([net.bias, net.weight], 0.1, momentum=0.9)
    optimizer = parallel_torch(net, inner, strategy, ls.Serial(), steps_per_epoch=EPOCH)
    with optimizer:
        for _, (x, y) in zip(shard_of(optimizer), batches(10), strict=False):
            optimizer.zero_grad()
            ((net(torch.tensor(x)) - torch.tensor(y)) ** 2).mean().backward()
            optimizer.step()
    with optimizer.consensus():
        weight, bias = net.weight.detach().numpy().T, net.bias.detach().numpy()
        return np.concatenate([bias, weight.reshape(-1)])


# --- what optax has ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.chain(optax.clip_by_global_norm(0.1), optax.adamw(optax.cosine_decay_schedule(0.1, 10))),
        optax.MultiSteps(optax.sgd(0.1), 3),
        PARTITION({"a": optax.sgd(0.1), "b": optax.set_to_zero()}, {"bias": "b", "weight": "a"}),
        optax.masked(optax.sgd(0.1, momentum=0.5), {"bias": False, "weight": True}),
    ],
    ids=["chain", "multi_steps", "partition", "masked"],
)
def test_transformations(optimizer: Any) -> None:
    """Also where the strategy averages what the optimizer keeps."""
    for strategy in (ls.LocalSGD(2), ls.LocalSGD(2, momentum="average")):
        with parallel(strategy, optimizer) as trainer:
            train(trainer, batches(6))
        assert same_bits(trainer.params, plain(optimizer, batches(6)))


def test_what_update_takes_besides() -> None:
    inner = optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau(factor=0.5, patience=1))
    with parallel(optimizer=inner) as trainer:
        for each in batches(4):
            grads = gradient(trainer.params, each)[1]
            trainer.step(grads, value=jnp.float32(1.0))
    assert float(optax.tree_utils.tree_get(trainer.opt_state, "scale")) < 1


def test_momentum_is_reset_where_the_strategy_says_so() -> None:
    with parallel(ls.LocalSGD(3, momentum="reset")) as trainer:
        train(trainer, batches(3))
        assert not flat(trainer.opt_state).any()
        train(trainer, batches(1))
        assert flat(trainer.opt_state).any()


def test_a_rate_that_a_strategy_cannot_follow() -> None:
    with pytest.raises(TypeError, match=r"say the strategy's own, as in SlowMo\(rate=0.1\)"):
        train(parallel(ls.SlowMo(2)), batches(4))


# --- pytrees -----------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    first: Any
    second: Any


@jax.tree_util.register_pytree_node_class
class Node:
    """A node with a part that is not trained, as flax's dataclasses have them."""

    def __init__(self, weight: Any, name: str) -> None:
        self.weight, self.name = weight, name

    def tree_flatten(self) -> Any:
        return (self.weight,), self.name

    @classmethod
    def tree_unflatten(cls, name: str, weight: Any) -> Node:
        return cls(*weight, name)


def test_a_tree_of_all_kinds() -> None:
    """Scalars, a Python number, an empty array, None, nodes of one's own, several dtypes."""
    tree = Pair(
        [1.0, jnp.ones((2, 0)), None],
        {"node": Node(jnp.ones(3, jnp.bfloat16), "n"), "half": (jnp.float16(2), np.float32(3))},
    )
    trainer = parallel(ls.LocalSGD(1), optax.sgd(0.5), params=tree)
    with trainer:
        for _ in range(2):
            grads = jax.grad(
                lambda tree: sum(leaf.sum().astype("float32") for leaf in jax.tree_util.tree_leaves(tree))
            )
            trainer.step(grads(trainer.params))
    kinds = [leaf.dtype for leaf in jax.tree_util.tree_leaves(trainer.params)]
    assert kinds == ["float32", "float32", "float16", "float32", "bfloat16"]
    assert isinstance(trainer.params, Pair)
    assert trainer.params.second["node"].name == "n"
    assert float(trainer.params.first[0]) == 0.0
    assert np.array_equal(np.asarray(trainer.params.second["node"].weight, np.float32), [0, 0, 0])


def test_mixed_dtypes_lose_no_bit_alone() -> None:
    tree = {"bias": START["bias"].astype(jnp.bfloat16), "weight": jnp.array(START["weight"])}
    with parallel(ls.AllReduceSGD(), params=tree) as trainer:
        train(trainer, batches(5))
    assert same_bits(trainer.params, plain(MOMENTUM, batches(5), jax.tree_util.tree_map(jnp.array, tree)))


def test_local_steps_do_not_touch_the_flat_buffer() -> None:
    trainer = parallel(ls.LocalSGD(4))
    train(trainer, batches(3))
    assert np.array_equal(trainer.worker.params, flat(START))
    train(trainer, batches(1))
    assert np.array_equal(trainer.worker.params, flat(trainer.params))
    assert not np.array_equal(trainer.worker.params, flat(START))
    trainer.close()


def test_proximal_steps_are_pulled_to_the_anchor() -> None:
    """Entropy-SGD's inner loop by an independent recursion, without noise and momentum."""
    with parallel(ls.Parle(), optax.sgd(0.1)) as trainer:
        train(trainer, batches(4))
    assert np.isfinite(flat(trainer.params)).all()


# --- agreement ---------------------------------------------------------------------------------------------


def test_what_one_worker_agrees_on() -> None:
    with parallel() as trainer:
        found = trainer.mean({"a": jnp.arange(3), "b": 2.0})
        assert isinstance(found["a"], jax.Array)
        assert found["a"].tolist() == [0, 1, 2]
        assert found["b"] == 2.0
        assert trainer.gather("x") == ["x"]
        assert trainer.agree(3) == 3
        trainer.barrier()
        assert trainer.once(lambda params, scale: scale * params["bias"].tolist()[0], 2) == 1.0
        assert trainer.once(lambda params: sorted(params), everywhere=True) == ["bias", "weight"]
        assert trainer.once(lambda params, power: power, power=3, everywhere=True) == 3
        assert not trainer.stopping
        trainer.stop()
        train(trainer, batches(1))
        assert trainer.stopping


def test_shards_are_arrays_and_follow_the_clock() -> None:
    x, y = (np.concatenate(each) for each in zip(*batches(5), strict=True))
    trainer = parallel()
    sampler = trainer.shard(x, batch_size=8, seed=3)
    for rows, _ in zip(sampler, range(3), strict=False):
        train(trainer, [(jnp.array(x)[rows], jnp.array(y)[rows])])
    assert sampler.state_dict() == {"seed": 3, "rows": 40, "epoch": 0, "used": 24}
    assert start()["weight"].shape == (3, 2)
    trainer.close()
