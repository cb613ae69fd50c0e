"""Checkpoints of a JAX loop: a run that goes on has the bits of one that was not interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("jax")
pytest.importorskip("optax")

import jax
import jax.numpy as jnp
import optax
from tests.jax.training import ADAM, NOISY, SGD, START, batches, parallel, same_bits, train

import loosestep as ls
from loosestep.foundation.errors import CheckpointError

HALF = optax.adam(0.01, mu_dtype=jnp.bfloat16)


@pytest.mark.parametrize("optimizer", [ADAM, HALF, NOISY], ids=["adam", "half", "noisy"])
@pytest.mark.parametrize("strategy", [ls.LocalSGD(4), ls.EASGD(3), ls.DiLoCo(4), ls.AllReduceSGD()], ids=repr)
def test_a_resumed_run_has_the_same_bits(strategy: ls.Strategy, optimizer: Any, tmp_path: Path) -> None:
    data = list(batches(10))
    also = {"key": jax.random.key(1), "stats": jnp.arange(3), "n": 2}
    with parallel(strategy, optimizer) as whole:
        train(whole, data)
    with parallel(strategy, optimizer) as first:
        assert first.restore(tmp_path, also=also) == (None, also)
        train(first, data[:6])
        first.save(tmp_path, {"epoch": 1}, also=also)
        train(first, data[6:7])
    with parallel(strategy, optimizer) as second:
        note, found = second.restore(tmp_path, also=also | {"n": 7, "stats": jnp.zeros(3, int)})
        assert note == {"epoch": 1}
        assert found["n"] == 2
        assert found["stats"].tolist() == [0, 1, 2]
        assert jax.random.key_data(found["key"]).tolist() == jax.random.key_data(also["key"]).tolist()
        train(second, data[6:])
    assert same_bits(whole.params, second.params)
    assert same_bits(whole.consensus(), second.consensus())
    assert second.worker.clock == whole.worker.clock


def test_what_another_run_wrote(tmp_path: Path) -> None:
    with parallel() as trainer:
        trainer.save(tmp_path, also=jnp.ones(2))
    for said, also, change in (
        ("was written with strategy LocalSGD", None, {"strategy": ls.EASGD(2)}),
        ("optimizer TraceState", None, {"optimizer": ADAM}),
        ("tensor 0 \"params['bias']\" (2,) float32", None, {"params": START | {"bias": np.ones(3)}}),
        ("was saved with also= 1 arrays, and here there are 0", None, {}),
        ("also= an array of shape (2,) and float32, and here an array of shape (3,)", jnp.ones(3), {}),
    ):
        with parallel(**change) as other, pytest.raises(CheckpointError) as caught:
            other.restore(tmp_path, also=also)
        assert said in str(caught.value)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with parallel(optimizer=SGD) as trainer:
        with pytest.raises(TypeError, match=r"also\['f'\] is of type function: save\(\) keeps pytrees"):
            trainer.save(tmp_path, also={"f": len.__call__ and (lambda: 1)})
        with pytest.raises(TypeError, match="note is of type"):
            trainer.save(tmp_path, np.ones(2))
        trainer.save(tmp_path)
