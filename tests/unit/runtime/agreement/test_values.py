"""The mean of all workers' values: its bits, dtypes and shapes, and what it refuses; objects as text."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tests.unit.runtime.agreement.loops import Workers, all_of, alone, tried
from tests.unit.sessions import FakeSession

from loosestep.foundation.errors import Mismatch
from loosestep.runtime.agreement.values import Foreign, mean, packed, unpacked


def mean_of(worker: Workers, x: Any, weight: float = 1.0, foreign: Any = lambda x: None) -> Any:
    return mean(worker.agreement, "mean()", x, weight, foreign)


def of_one(x: Any, weight: float = 1.0, foreign: Any = lambda x: None) -> Any:
    return mean_of(alone(FakeSession()), x, weight, foreign)


def test_a_mean_is_a_left_fold_in_float64_with_the_same_bits_for_all() -> None:
    values = [0.1, 1e16, -1e16]
    found = all_of(3, lambda worker: mean_of(worker, values[worker.rank]))
    assert found == [((0.1 + 1e16) - 1e16) / 3] * 3
    assert found[0] != (0.1 + (1e16 - 1e16)) / 3


def test_arrays_are_summed_in_float64_and_keep_their_dtype_and_shape() -> None:
    parts = np.array([[1.0], [2.0**-24], [2.0**-24]], np.float32)  # one after the other they vanish in float32
    found = all_of(3, lambda worker: mean_of(worker, parts[worker.rank].reshape(1, 1), weight=1.0))
    wanted = np.float32((1.0 + 2.0**-24 + 2.0**-24) / 3)
    assert [(each.dtype, each.shape, each[0, 0]) for each in found] == [(np.float32, (1, 1), wanted)] * 3


@pytest.mark.parametrize(
    ("given", "dtype"), [("f2", "f2"), ("f4", "f4"), ("f8", "f8"), ("i4", "f8"), ("u1", "f8"), ("?", "f8")]
)
def test_integers_become_float64(given: str, dtype: str) -> None:
    found = of_one(np.array([[1, 0], [1, 1]], given))
    assert (found.dtype, found.tolist()) == (np.dtype(dtype), [[1.0, 0.0], [1.0, 1.0]])


def test_no_bit_of_a_float64_and_none_of_a_weighted_product_is_lost() -> None:
    assert of_one(np.array([0.1, 2.0**53 - 1])).tolist() == [0.1, 2.0**53 - 1]
    x, weights = np.float32(0.1), (0.3, 0.7)
    found = all_of(2, lambda worker: mean_of(worker, np.array([x * worker.rank]), weights[worker.rank]))
    assert [each[0] for each in found] == [np.float32(float(x) * 0.7 / (0.3 + 0.7))] * 2


@pytest.mark.parametrize("x", [True, 1, 1.0, np.float32(1), np.int8(1), np.bool_(True)])
def test_a_number_becomes_a_float(x: Any) -> None:
    found = of_one(x, weight=7)
    assert (type(found), found) == (float, 1.0)


def test_weights_and_dicts_in_the_order_in_which_they_were_given() -> None:
    def run(worker: Workers) -> Any:
        return mean_of(worker, {"b": worker.rank, "a": {"c": np.arange(3.0) * worker.rank}}, 1 + worker.rank)

    for found in all_of(2, run):
        assert list(found) == ["b", "a"]
        assert found["b"] == 2 / 3
        assert found["a"]["c"].tolist() == [0.0, 2 / 3, 4 / 3]


def test_nothing_is_looked_at_of_weight_zero() -> None:
    found = all_of(2, lambda worker: mean_of(worker, [2.0, np.nan][worker.rank], 1 - worker.rank))
    assert found == [2.0, 2.0]


def test_weight_zero_on_all_is_an_error_on_all() -> None:
    found = all_of(2, lambda worker: mean_of(worker, 1.0, 0), errors=True)
    assert [(type(each), str(each)) for each in found] == [(ValueError, "mean() has weight 0 on all workers")] * 2
    with pytest.raises(ValueError, match="weight"):
        of_one(1.0, weight=-1.0)


def test_different_things_raise_alike_and_name_both() -> None:
    def run(worker: Workers) -> Any:
        error = tried(lambda: mean_of(worker, {"x": np.zeros(2 + worker.rank // 2)}))
        return type(error), str(error), mean_of(worker, worker.rank)

    shapes = [f"x['x'] as an array of shape ({size},)" for size in (2, 3)]
    words = f"mean() was given {shapes[0]} by worker 0, and {shapes[1]} by worker 2"
    assert all_of(3, run) == [(Mismatch, words, 1.0)] * 3


@pytest.mark.parametrize(
    ("x", "words"), [("a", "x is str"), ({"a": [1]}, r"x\['a'\] is list"), (1j, "x is complex"), ({1: 2}, "dict")]
)
def test_what_has_no_mean_is_refused(x: Any, words: str) -> None:
    with pytest.raises(TypeError, match=f"^mean.. takes numbers, numpy arrays, tensors, .*{words}$"):
        of_one(x)


def test_a_frameworks_array_is_remade_from_the_mean_of_its_numbers() -> None:
    def foreign(x: Any) -> Foreign | None:
        return Foreign("list", (2, 1), np.array(x, float), np.ndarray.tolist) if isinstance(x, list) else None

    found = all_of(2, lambda worker: mean_of(worker, {"y": [1, worker.rank], "x": 3}, 1.0, foreign))
    assert found == [{"y": [[1.0], [0.5]], "x": 3.0}] * 2


@pytest.mark.parametrize(
    "x", [None, {"rank": 1, "all": (1, 2)}, b"\0\xff", "é", {1, 2}, float("inf"), Mismatch("a")]
)
def test_an_object_comes_back_from_the_text_that_json_can_hold(x: Any) -> None:
    text = packed(x)
    assert text.isascii()
    again = unpacked(json.loads(json.dumps(text)))
    assert (type(again), repr(again)) == (type(x), repr(x))
