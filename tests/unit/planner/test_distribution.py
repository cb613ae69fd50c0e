"""A distributed program computes what the program of one device computes, whatever the degrees."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from loosestep.planner.parallelism import (
    GELU,
    Degrees,
    Hardware,
    LayerNorm,
    Linear,
    Model,
    ReLU,
    Residual,
    Training,
    distributed,
    execute,
    mlp,
    simulate,
    transformer,
)
from loosestep.planner.parallelism.distribution import spans
from loosestep.planner.parallelism.executor import parameters

BATCH = Training(8, itemsize=8)
MODELS = {
    "mlp": mlp(6, 8, 12, 4),
    "transformer": transformer(1, 8, 4, 3, 8),
    "norms and residuals between split layers": Model(
        (Linear(6, 8), LayerNorm(8), Residual((Linear(8, 8), ReLU())), GELU(), Linear(8, 8), Residual((GELU(),))),
        6,
    ),
}


def arrays_of(model: Model) -> dict[str, Any]:
    random = np.random.default_rng(1)
    rows = BATCH.batch * model.rows
    given = parameters(distributed(model, BATCH, Degrees()))
    return {
        **given,
        "inputs": random.normal(size=(rows, model.inputs)),
        "targets": random.integers(4, size=rows),
    }


@pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
def test_gradients_are_those_of_one_device(model: Model) -> None:
    arrays = arrays_of(model)
    loss, gradients, _ = execute(distributed(model, BATCH, Degrees()), arrays)
    for degrees in product((1, 2), (1, 2, 4), (1, 3), (1, 4), ("1f1b", "gpipe")):
        found, parts, _ = execute(distributed(model, BATCH, Degrees(*degrees)), arrays)
        assert found == pytest.approx(loss, rel=1e-13), degrees
        assert parts.keys() == gradients.keys()
        for name, gradient in gradients.items():
            scale = abs(gradient).max()
            assert abs(parts[name] - gradient).max() <= 1e-12 * scale + 1e-15, (degrees, name)


@pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
def test_gradients_are_the_slope_of_the_loss(model: Model) -> None:
    arrays, step = arrays_of(model), 1e-5
    program = distributed(model, BATCH, Degrees())
    gradients = execute(program, arrays)[1]
    random = np.random.default_rng(2)
    for name, gradient in gradients.items():
        way = random.normal(size=gradient.shape)
        losses = [execute(program, {**arrays, name: arrays[name] + sign * step * way})[0] for sign in (1, -1)]
        slope = (losses[0] - losses[1]) / (2 * step)
        assert slope == pytest.approx((gradient * way).sum(), rel=1e-5, abs=1e-8), name


def test_parameters_are_moved_by_the_gradient_on_every_device() -> None:
    model = MODELS["mlp"]
    arrays = arrays_of(model)
    program = distributed(model, BATCH, Degrees(data=2, tensor=2, pipeline=2, microbatches=2))
    _, gradients, values = execute(program, arrays)
    moved = [op for op in program.ops if op.kind == "update"]
    assert len(moved) == 8 // 2 * len(gradients)
    for op in moved:
        np.testing.assert_array_equal(values[op.outputs[0]], values[op.inputs[0]] - 0.1 * values[op.inputs[1]])


@pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
def test_one_device_of_a_stage_stands_for_all(model: Model) -> None:
    hardware = Hardware(flops=1e9, memory_bandwidth=1e8, per_host=2)
    for degrees in (Degrees(2, 2, 2, 2), Degrees(4, 1, 2, 2, "gpipe"), Degrees(1, 4, 3, 4), Degrees(2, 4)):
        whole, one = (
            simulate(distributed(model, BATCH, degrees, per_host=2, alike=alike), hardware)
            for alike in (False, True)
        )
        assert one.seconds == pytest.approx(whole.seconds, rel=1e-12)
        per_stage = degrees.data * degrees.tensor
        assert list(one.peak) == [stage * per_stage for stage in range(degrees.pipeline)]
        assert {device: one.peak[device // per_stage * per_stage] for device in whole.peak} == whole.peak


def test_devices_that_do_not_agree_are_found() -> None:
    model = MODELS["mlp"]
    program = distributed(model, BATCH, Degrees(data=2))
    left = [op for op in program.ops if op.kind == "all-reduce"]
    for op in left:
        program.ops.remove(op)
    sums = {out: given for op in left for out, given in zip(op.outputs, op.inputs, strict=True)}
    for op in program.ops:
        op.inputs = tuple(sums.get(value, value) for value in op.inputs)
    program.gradients = {
        name: [(sums.get(value, value), source) for value, source in parts]
        for name, parts in program.gradients.items()
    }
    with pytest.raises(ValueError, match=r"devices do not agree on the gradient of \d\."):
        execute(program, arrays_of(model))


def test_a_tensor_group_meets_twice_in_each_pass_of_a_transformer_layer() -> None:
    """Megatron-LM, section 3: two all-reduces of the activations forward, and two backward."""
    model = transformer(3, 8, 4, 3, 8)
    program = distributed(model, Training(8), Degrees(tensor=4))
    rows = [op for op in program.ops if op.kind == "all-reduce" and "." in op.label]
    assert len(rows) == 3 * 4
    assert {op.nbytes for op in rows} == {8 * 3 * 8 * 4}
    heads = [op for op in program.ops if op.kind == "matmul" and op.label == "0.1"]
    assert len(heads) == 4
    assert sum(op.flops for op in heads) == 2 * (8 * 3) * 8 * 24


@pytest.mark.parametrize(
    ("degrees", "told"),
    [
        (Degrees(data=3), "data degree 3 does not divide 8, the batch"),
        (Degrees(data=2, microbatches=3), "the number of microbatches 3 does not divide 4, a replica's batch"),
        (Degrees(tensor=3), "tensor degree 3 does not divide 8, a size of 0.weight"),
        (Degrees(pipeline=6), "5 layers cannot be cut into 6 pipeline stages"),
    ],
)
def test_degrees_that_do_not_divide_are_named(degrees: Degrees, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        distributed(MODELS["mlp"], BATCH, degrees)


def test_heads_that_do_not_divide_are_named() -> None:
    with pytest.raises(ValueError, match="tensor degree 8 does not divide 4, the heads of layer 0.2"):
        distributed(transformer(1, 16, 4, 3, 8), BATCH, Degrees(tensor=8))


def test_bad_degrees_and_training_are_named() -> None:
    with pytest.raises(ValueError, match="tensor must be at least 1, got 0"):
        Degrees(tensor=0)
    with pytest.raises(ValueError, match="schedule must be one of '1f1b', 'gpipe', got 'zigzag'"):
        Degrees(schedule="zigzag")
    with pytest.raises(ValueError, match="state_bytes must be at least 0, got -1"):
        Training(8, state_bytes=-1)


def test_groups_that_span_hosts_are_found() -> None:
    assert spans(Degrees(data=2, tensor=4), 8) == (False, False, False)
    assert spans(Degrees(data=2, tensor=4, pipeline=2), 8) == (False, False, True)
    assert spans(Degrees(data=4, tensor=4), 8) == (False, True, False)
    assert spans(Degrees(data=1, tensor=16), 8) == (True, False, False)
    assert spans(Degrees(data=2, tensor=3), 4) == (True, True, False)
