"""`Model`: a pytree's loss in the library's own loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("jax")
pytest.importorskip("optax")

import jax.numpy as jnp
from tests.contract.parametrize import EPOCH, EXAMPLES
from tests.jax.training import START, batches, flat, loss_of, numpy_gradient

import loosestep as ls
import loosestep.jax
from loosestep.data import global_batches

MODEL = loosestep.jax.Model(loss_of, START)
X, Y = (np.concatenate(each) for each in zip(*batches(8), strict=True))


def train(strategy: ls.Strategy, gradient: Any, on: ls.Transport) -> Any:
    data: Any = lambda rank, size: batches(8, rank)  # noqa: E731
    if ls.Need.GLOBAL_BATCHES in strategy.needs:
        data = global_batches((X, Y), 16, 2)
    return ls.run(strategy, gradient, MODEL.x0, data, on=on, steps_per_epoch=EPOCH).params


@pytest.mark.parametrize("strategy", EXAMPLES, ids=repr)
def test_a_strategy_gets_the_gradients_that_numpy_gives(strategy: ls.Strategy) -> None:
    for on in (ls.Serial(), ls.Simulated(2)):
        ours, wanted = (train(strategy, gradient, on) for gradient in (MODEL.gradient, numpy_gradient))
        np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strategy", EXAMPLES, ids=repr)
def test_a_strategy_trains_in_threads(strategy: ls.Strategy) -> None:
    assert np.isfinite(train(strategy, MODEL.gradient, ls.Threads(2))).all()


def test_the_start_and_the_way_back() -> None:
    assert MODEL.x0.dtype == np.float32
    assert MODEL.shapes == ((2,), (3, 2))
    tree = MODEL.unflatten(MODEL.x0)
    assert sorted(tree) == ["bias", "weight"]
    assert np.array_equal(flat(tree), flat(START))
    MODEL.x0[:] += 0  # what was read is a copy
    assert np.array_equal(tree["weight"], START["weight"])


def test_a_loss_sees_leaves_of_their_own_dtypes() -> None:
    seen = []

    def loss(params: Any, batch: Any) -> Any:
        seen.append([leaf.dtype for leaf in params])
        return sum((leaf.astype(jnp.float32) ** 2).sum() for leaf in params)

    model = loosestep.jax.Model(loss, (jnp.ones(2, jnp.bfloat16), jnp.ones(3)))
    value, grad = model.gradient(model.x0 * 1.001, None)
    assert seen == [[jnp.bfloat16, jnp.float32]]
    assert model.x0.dtype == grad.dtype == np.float32
    np.testing.assert_allclose(grad, [2, 2, 2.002, 2.002, 2.002], rtol=1e-6)  # 1.001 is 1 in bfloat16
    assert value == pytest.approx(2 + 3 * 1.001**2, rel=1e-6)
