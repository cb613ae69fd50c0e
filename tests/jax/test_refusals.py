"""What a JAX loop is refused, in sentences that name the leaf, the call, and what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("jax")
pytest.importorskip("optax")

import jax
import jax.numpy as jnp
from tests.jax.training import START, batch, batches, gradient, parallel, start, train

import loosestep as ls
import loosestep.jax
from loosestep.foundation.errors import Diverged

ONES = jax.tree_util.tree_map(np.ones_like, START)


@pytest.mark.parametrize(
    ("kind", "said", "change"),
    [
        (ValueError, "params is a pytree without leaves", {"params": {"a": None}}),
        (TypeError, "params['n'] must be float32, float64, bfloat16 or float16, got int32", {"params": {"n": 3}}),
        (TypeError, "got complex64: leave out of params what no gradient trains", {"params": [jnp.ones(2) * 1j]}),
        (TypeError, "got key<fry>", {"params": [jax.random.key(0)]}),
        (TypeError, "params[0] must be an array, got str: leave it out", {"params": ["relu"]}),
        (ValueError, "params['b'] holds values that are not finite", {"params": {"a": 1.0, "b": np.inf}}),
        (TypeError, "optimizer must be one of optax, such as optax.adam(1e-3), got str", {"optimizer": "sgd"}),
        (TypeError, "strategy must be a Strategy", {"strategy": ls.LocalSGD}),
        (ValueError, "seed must be at least 0", {"seed": -1}),
        (TypeError, "on must be a Transport", {"on": 3}),
        (TypeError, "has no place for a loop of your own", {"on": ls.Threads(1)}),
        (ValueError, "counts epochs: say steps_per_epoch", {"strategy": ls.Stages.example()}),
    ],
)
def test_bad_input(kind: type[Exception], said: str, change: dict[str, Any]) -> None:
    with pytest.raises(kind) as caught:
        parallel(**change)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "said", "grads"),
    [
        (TypeError, "the gradient must be a pytree like params", {"weight": ONES["weight"]}),
        (
            ValueError,
            "the gradient of params['bias'] must be of shape (2,), got (3,)",
            ONES | {"bias": np.ones(3)},
        ),
        (TypeError, "the gradient of params['bias'] must be floating-point", ONES | {"bias": np.ones(2, int)}),
        (
            TypeError,
            "the gradient of params['bias'] must be floating-point numbers, got str",
            ONES | {"bias": "x"},
        ),
    ],
)
def test_a_gradient_of_another_kind_makes_no_step(kind: type[Exception], said: str, grads: Any) -> None:
    trainer = parallel()
    with pytest.raises(kind) as caught:
        trainer.step(grads)
    assert said in str(caught.value)
    train(trainer, batches(2))  # the loop goes on
    assert trainer.worker.clock == 2
    trainer.close()


def test_compiled_calls() -> None:
    trainer = parallel()
    with pytest.raises(TypeError, match=r"step\(\) cannot be called inside jax.jit"):
        jax.jit(trainer.step)(ONES)
    with pytest.raises(RuntimeError, match=r"trainer.params inside jax.jit would stay what it is now"):
        jax.jit(lambda x: gradient(trainer.params, batch(0))[0] + x)(1.0)
    with pytest.raises(TypeError, match=r"parallel\(\) and Model\(\) cannot be called inside"):
        jax.jit(lambda params: parallel(params=params).params)(start())
    train(trainer, batches(2))
    trainer.close()


def test_after_the_end() -> None:
    trainer = parallel()
    with trainer:
        train(trainer, batches(2))
    for call in (lambda: trainer.step(ONES), trainer.ready, trainer.barrier):
        with pytest.raises(RuntimeError, match="the run has ended: .* belongs inside the `with trainer:`"):
            call()
    assert trainer.consensus()["bias"].shape == (2,)


def test_after_an_error_there_is_no_consensus() -> None:
    trainer = parallel()
    with pytest.raises(KeyError), trainer:
        raise KeyError
    with pytest.raises(RuntimeError, match=r"the run ended with an error \(KeyError\), so there is no consensus"):
        trainer.consensus()
    assert np.array_equal(trainer.params["bias"], START["bias"])


def test_numbers_that_are_not_finite(tmp_path: Any) -> None:
    trainer = parallel()
    trainer.step(ONES | {"bias": np.full(2, np.nan, np.float32)})
    with pytest.raises(Diverged):
        trainer.save(tmp_path)
    with pytest.raises(Diverged):
        trainer.consensus()
    with pytest.raises(Diverged):
        trainer.close()
