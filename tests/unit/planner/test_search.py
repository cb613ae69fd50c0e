"""The estimator gives the simulator's numbers, and the search ranks by them."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest

from loosestep.planner.parallelism import (
    GELU,
    Degrees,
    Estimator,
    Hardware,
    LayerNorm,
    Linear,
    Link,
    Model,
    ReLU,
    Training,
    distributed,
    mlp,
    of_torch,
    search,
    simulate,
    transformer,
)
from loosestep.planner.parallelism.layer_costs import PassCost
from loosestep.planner.parallelism.models import stages
from loosestep.planner.parallelism.search import candidates, factors

SLOW = Hardware(
    flops=1e9, memory_bandwidth=1e8, launch=1e-6, per_host=2, within=Link(1e-6, 1e8), between=Link(3e-6, 3e7)
)
SMALL = [mlp(6, 8, 12, 8, 4), transformer(2, 8, 4, 3, 8), Model((Linear(6, 8), LayerNorm(8), GELU(), ReLU()), 6)]


@pytest.mark.parametrize("hardware", [SLOW, Hardware(per_host=4)], ids=["slow", "default"])
@pytest.mark.parametrize("model", SMALL, ids=["mlp", "transformer", "norm"])
def test_an_estimate_is_what_the_simulator_says(model: Model, hardware: Hardware) -> None:
    """Of all operations: the length of the step to rounding, and the peak memory to the byte."""
    training = Training(16, 4, 12)
    estimator = Estimator(model, training, hardware)
    for degrees in product((1, 4), (1, 2, 4), (1, 2, 4), (1, 2, 4), ("1f1b", "gpipe")):
        told = estimator.estimate(Degrees(*degrees))
        program = distributed(
            model, training, told.degrees, list(told.cuts), per_host=hardware.per_host, alike=True
        )
        timeline = simulate(program, hardware)
        assert told.seconds == pytest.approx(timeline.seconds, rel=1e-9), degrees
        assert told.peak == max(timeline.peak.values()), degrees
        computing = sum(each.end - each.begin for each in timeline.events if each.op.between is None)
        assert told.idle == pytest.approx(1 - computing / (told.seconds * told.degrees.pipeline), abs=1e-9)


def test_the_bytes_that_devices_send_are_those_of_rings() -> None:
    model, training = mlp(6, 8, 4), Training(16)
    estimator = Estimator(model, training, SLOW)
    size = (6 * 8 + 8 + 8 * 4 + 4) * 4
    assert estimator.estimate(Degrees()).sent == 0
    assert estimator.estimate(Degrees(data=4)).sent == 2 * 3 / 4 * size
    sums = 2 * 1 / 2 * 16 * 4 * 4  # of the scores, forward
    assert estimator.estimate(Degrees(tensor=2)).sent == sums
    crossing = 2 * 16 * 8 * 4 / 2  # activations and their gradients, of two devices
    assert estimator.estimate(Degrees(pipeline=2, microbatches=4)).sent == crossing


def test_passes_one_after_the_other_add_up() -> None:
    one, other = PassCost(2.0, 1.0, 5.0, 30, 10, 0.5, 1.0), PassCost(3.0, 3.0, 0.0, 25, -10, 2.0, 3.0)
    assert one.then(other) == PassCost(5.0, 4.0, 5.0, 35, 0, 4.0, 5.0)


def test_layers_are_cut_so_that_the_slowest_stage_is_as_fast_as_can_be() -> None:
    assert stages([3, 1, 1, 1, 3], 3) == [range(1), range(1, 4), range(4, 5)]
    assert stages([1, 1, 1, 1], 4) == [range(place, place + 1) for place in range(4)]
    assert stages([5], 1) == [range(1)]
    with pytest.raises(ValueError, match="2 layers cannot be cut into 3 pipeline stages"):
        stages([1, 1], 3)


def test_all_degrees_are_tried_and_ranked() -> None:
    found = search(transformer(2, 8, 4, 3, 8), Training(16), SLOW, 8)
    tried = {each.degrees for each in found.fitting} | {degrees for degrees, _ in found.refused}
    triples = {(each.data, each.tensor, each.pipeline) for each in tried}
    assert triples == {(d, t, 8 // d // t) for d, t in product(factors(8), factors(8)) if 8 % (d * t) == 0}
    times = [each.seconds for each in found.fitting]
    assert times == sorted(times)
    assert all(each.degrees.devices == 8 for each in found.fitting)
    assert {reason for _, reason in found.refused} == {
        "6 layers cannot be cut into 8 pipeline stages",
        "tensor degree 8 does not divide 4, the heads of layer 0.2",
    }


def test_the_order_is_the_same_every_time_and_however_degrees_are_listed() -> None:
    model, training = mlp(6, 8, 12, 8, 4), Training(16)
    first = search(model, training, SLOW, 8)
    assert search(model, training, SLOW, 8) == first
    turned = search(model, training, SLOW, 8, data=(8, 4, 2, 1), tensor=(4, 2, 1), pipeline=(4, 2, 1))
    assert turned.fitting == [each for each in first.fitting if each.degrees.tensor < 8]


def test_the_best_changes_from_data_to_pipeline_parallelism_where_links_are_slow() -> None:
    model, training = mlp(*[512] * 9), Training(256)

    def best(bandwidth: float) -> Degrees:
        link = Link(1e-6, bandwidth)
        machine = Hardware(flops=1e12, memory_bandwidth=1e12, launch=1e-6, within=link, between=link)
        return search(model, training, machine, 4, tensor=(1,)).best.degrees

    assert best(1e11) == Degrees(data=4)
    assert best(1e8).pipeline == 4


def test_what_does_not_fit_is_left_out_and_said() -> None:
    model, training = mlp(*[512] * 9), Training(256)
    whole = search(model, training, Hardware(), 4)
    sizes = sorted(each.peak for each in whole.fitting)
    tight = search(model, training, Hardware(memory=float(sizes[3])), 4)
    assert sorted(each.peak for each in tight.fitting) == sizes[:4]
    assert [each.peak for each in tight.too_large] == sizes[4:]
    nothing = search(model, training, Hardware(memory=1e6), 4)
    told = r"nothing fits in 0.001 GB a device: the smallest, data 1 x .*, needs 0.00\d+ GB, 0.00\d+ GB too much"
    with pytest.raises(ValueError, match=told):
        _ = nothing.best


def test_a_search_that_finds_no_configuration_says_why() -> None:
    with pytest.raises(ValueError, match="for 8 devices: data degree 8 does not divide 9, the batch"):
        _ = search(mlp(6, 8, 4), Training(9), SLOW, 8, data=(8,)).best
    with pytest.raises(ValueError, match="the degrees to try have no such product"):
        _ = search(mlp(6, 8, 4), Training(9), SLOW, 8, data=(3,)).best
    with pytest.raises(ValueError, match="tensor must be at least 1, got 0"):
        search(mlp(6, 8, 4), Training(9), SLOW, 8, tensor=(0,))


def test_degrees_that_are_asked_for_are_all_that_is_tried() -> None:
    asked = list(candidates(8, 32, data=(2,), tensor=(2, 4), microbatches=(1, 4)))
    assert asked == [
        Degrees(2, 2, 2, 1),
        Degrees(2, 2, 2, 4),
        Degrees(2, 2, 2, 4, "gpipe"),
        Degrees(2, 4, 1, 1),
        Degrees(2, 4, 1, 4),
    ]


def module(kind: str, **sizes: Any) -> Any:
    return type(kind, (SimpleNamespace,), {})(**sizes)


def test_a_model_is_read_from_torch_modules() -> None:
    modules = [
        module("Flatten"),
        module("Linear", in_features=784, out_features=64),
        module("ReLU"),
        module("Dropout"),
        module("LayerNorm", normalized_shape=(64,)),
        module("GELU"),
        module("Linear", in_features=64, out_features=10),
    ]
    assert of_torch(modules) == Model((Linear(784, 64), ReLU(), LayerNorm(64), GELU(), Linear(64, 10)), 784)
    with pytest.raises(TypeError, match="module 1 is a Conv2d: the planner knows Linear, ReLU, GELU and Layer"):
        of_torch([module("ReLU"), module("Conv2d")])
    with pytest.raises(ValueError, match="must have a Linear or LayerNorm layer"):
        of_torch([module("ReLU")])


def test_models_that_make_no_sense_are_named() -> None:
    with pytest.raises(ValueError, match="width must be a multiple of heads=3, got 8"):
        transformer(1, 8, 3, 4, 8)
    with pytest.raises(ValueError, match="an MLP must have the widths of its inputs and its classes at least"):
        mlp(4)
    with pytest.raises(ValueError, match="a model must have layers, got none"):
        Model((), 4)
