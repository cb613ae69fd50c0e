"""One rank of a job that runs every case: it says `rank R: CASE ok` at the end of each."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from mpi4py import MPI
from tests.contract.parametrize import EPOCH, EXAMPLES
from tests.jax.training import (
    ADAM,
    FOLLOWED,
    MOMENTUM,
    NOISY,
    SGD,
    START,
    batch,
    batches,
    flat,
    numpy_gradient,
    plain,
    same_bits,
    train,
)

import loosestep as ls
import loosestep.jax
from loosestep.foundation.errors import LoosestepError, PeerFailed
from loosestep.runtime.user_loop import SUPPORTED_NEEDS

RANK, SIZE = MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size


def parallel(strategy: ls.Strategy, optimizer: Any = MOMENTUM, **options: Any) -> Any:
    return loosestep.jax.parallel(options.pop("params", START), optimizer, strategy, **options)


def every(values: Any) -> Any:
    """What all ranks have, outside of the library."""
    return MPI.COMM_WORLD.allgather(values)


def same_everywhere(values: Any) -> bool:
    return all(np.array_equal(each, values) for each in every(values))


def union() -> None:
    """AllReduceSGD is optax on the union of the batches, to rounding; all start from rank 0's values."""
    wholes = [batch(step, rows=8 * SIZE) for step in range(8)]
    alone = plain(ADAM, wholes)
    for bucket_bytes in (25 << 20, 16):
        mine = START if RANK == 0 else jax.tree_util.tree_map(np.zeros_like, START)
        with parallel(ls.AllReduceSGD(bucket_bytes=bucket_bytes), ADAM, params=mine) as trainer:
            train(trainer, ((x[RANK::SIZE], y[RANK::SIZE]) for x, y in wholes))
            np.testing.assert_allclose(flat(trainer.params), flat(alone), rtol=1e-5, atol=1e-6)
            assert same_everywhere(flat(trainer.params))
        assert trainer.meter.bytes == 8 * 2 * (SIZE - 1) * trainer.worker.params.nbytes // SIZE


def local_recursion() -> None:
    """LocalSGD with momentum, and its means, by an independent recursion in numpy."""
    xs, moments = [flat(START).astype(float)] * SIZE, [np.zeros(8)] * SIZE
    with parallel(ls.LocalSGD(3)) as trainer:
        for step in range(7):
            train(trainer, [batch(step, RANK)])
            for rank in range(SIZE):
                moments[rank] = 0.9 * moments[rank] + numpy_gradient(xs[rank], batch(step, rank))[1]
                xs[rank] = xs[rank] - 0.1 * moments[rank]
            if step % 3 == 2:
                xs = [sum(xs) / SIZE] * SIZE  # type: ignore[list-item]
            np.testing.assert_allclose(flat(trainer.params), xs[RANK], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(flat(trainer.opt_state), moments[RANK], rtol=1e-4, atol=1e-5)
        mean = flat(trainer.consensus())
        np.testing.assert_allclose(mean, sum(xs) / SIZE, rtol=1e-4, atol=1e-5)
        assert same_everywhere(mean)


def averaged_momentum() -> None:
    """Where the strategy averages the optimizer's arrays, they are the mean afterwards, and nothing else is."""
    apart, alike = parallel(ls.LocalSGD(4), FOLLOWED), parallel(ls.LocalSGD(4, momentum="average"), FOLLOWED)
    for trainer in (apart, alike):
        train(trainer, batches(4, RANK))
    traces = [optax.tree_utils.tree_get(trainer.opt_state, "trace") for trainer in (apart, alike)]
    np.testing.assert_allclose(flat(traces[1]), np.mean(every(flat(traces[0])), axis=0), rtol=1e-5, atol=1e-7)
    assert not same_everywhere(flat(traces[0]))
    assert float(optax.tree_utils.tree_get(alike.opt_state, "learning_rate")) == np.float32(0.1)
    for trainer in (apart, alike):
        trainer.close()


def every_strategy() -> None:
    """Data may end earlier on one rank; all see one consensus afterwards, where it is collective."""
    for strategy in EXAMPLES:
        if strategy.needs - SUPPORTED_NEEDS:
            continue
        if strategy.shared_buffers:
            with pytest.raises(TypeError, match=r"use loosestep.run with loosestep.jax.Model"):
                parallel(strategy)
            continue
        trainer = parallel(strategy, FOLLOWED, steps_per_epoch=EPOCH)
        count = 8 - RANK
        with trainer:
            for _, each in zip(trainer.shard(100, batch_size=4), batches(count, RANK), strict=False):
                trainer.ready()
                train(trainer, [each])
        found = flat(trainer.consensus())
        assert np.isfinite(found).all(), strategy
        assert strategy.consensus_is == "one-sided" or same_everywhere(found), strategy


def resumed() -> None:
    """A run that goes on has the bits of one that was not interrupted; with another number, all begin alike."""
    for strategy, optimizer in ((ls.LocalSGD(3), NOISY), (ls.DiLoCo(3), ADAM), (ls.SyncEASGD(2), MOMENTUM)):
        folder = MPI.COMM_WORLD.bcast(tempfile.mkdtemp())
        with parallel(strategy, optimizer) as whole:
            train(whole, batches(9, RANK))
        with parallel(strategy, optimizer) as first:
            train(first, batches(5, RANK))
            first.save(folder, {"rank": 0}, also=jnp.full(2, RANK))
        with parallel(strategy, optimizer) as second:
            note, also = second.restore(folder, also=jnp.zeros(2, int))
            assert note == {"rank": 0}
            assert also.tolist() == [RANK, RANK]
            train(second, list(batches(9, RANK))[5:])
        assert same_bits(whole.params, second.params)
        assert same_bits(whole.consensus(), second.consensus())
        if RANK == 0:
            goes_on_alone(strategy, optimizer, folder)
        MPI.COMM_WORLD.Barrier()


def goes_on_alone(strategy: ls.Strategy, optimizer: Any, folder: str) -> None:
    """One worker goes on from the checkpoint of all."""
    with parallel(strategy, optimizer, on=ls.Serial()) as alone:
        note, _ = alone.restore(folder, also=jnp.zeros(2, int))
        assert note == {"rank": 0}
        assert alone.worker.clock == 5
        train(alone, batches(2))
        assert np.isfinite(flat(alone.params)).all()


def agreement() -> None:
    with parallel(ls.LocalSGD(2), SGD) as trainer:
        train(trainer, batches(2, RANK))
        found = trainer.mean({"loss": jnp.float32(RANK), "count": RANK}, weight=RANK + 1)
        assert found["count"] == sum(r * (r + 1) for r in range(SIZE)) / sum(range(1, SIZE + 1))
        assert float(found["loss"]) == np.float32(found["count"])
        assert trainer.gather(RANK) == list(range(SIZE))
        assert trainer.agree(RANK) == 0
        assert (
            trainer.once(lambda params: params["bias"].tolist(), everywhere=True)
            == every(trainer.params["bias"].tolist())[0]
        )
        if RANK == 0:
            trainer.stop()
        steps = 0
        while not trainer.stopping:
            train(trainer, [batch(steps, RANK)])
            steps += 1
        assert same_everywhere(steps)


def refused(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(LoosestepError) as caught:
        call()
    assert said in str(caught.value)


def what_must_be_alike() -> None:
    mine = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1 + RANK, momentum=0.9)
    refused(lambda: parallel(ls.LocalSGD(2), mine), "optimizer's learning_rate")
    refused(lambda: parallel(ls.LocalSGD(2), ADAM if RANK else SGD), "optimizer")
    refused(lambda: parallel(ls.LocalSGD(2), params={"w": np.ones(2 + RANK, np.float32)}), "parameter 0")
    trainer = parallel(ls.LocalSGD(2), FOLLOWED)
    trainer.opt_state.hyperparams["learning_rate"] += RANK
    refused(trainer.consensus, "hyperparameters differ in consensus()")
    trainer.close()
    trainer = parallel(ls.LocalSGD(2), SGD)
    trainer.shard(64, 8, seed=RANK)
    refused(trainer.consensus, f"worker {RANK} has {{'the order of sampler 0': 'of 64 rows with seed {RANK} ")
    trainer.close()


def an_error_on_one() -> None:
    """The others learn of it at their next step that waits."""
    trainer = parallel(ls.AllReduceSGD(), SGD)
    train(trainer, batches(2, RANK))

    def go_on() -> None:
        with trainer:
            if RANK == 1:
                trainer.step({"bias": START["bias"]})
            train(trainer, batches(3, RANK))

    with pytest.raises(TypeError if RANK == 1 else PeerFailed, match="must be a pytree like params"):
        go_on()


CASES = (
    union,
    local_recursion,
    averaged_momentum,
    every_strategy,
    resumed,
    agreement,
    what_must_be_alike,
    an_error_on_one,  # the last: it ends a session with an error
)

if __name__ == "__main__":
    for case in CASES:
        case()
        print(f"rank {RANK}: {case.__name__} ok", flush=True)
