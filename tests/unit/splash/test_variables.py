"""One worker's variables: what each operation does to them, and to what is merged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loosestep.foundation import buffers
from loosestep.splash.variables import Late, Layout, Values, Variables


def made(weight: int = 1, **given: Any) -> tuple[Variables, Any]:
    arrays = {name: np.asarray(value, np.float64) for name, value in given.items()}
    layout, flat = Layout(arrays), buffers.flat(list(arrays.values()))[0]
    shared = Variables(layout, buffers.like(flat))
    shared._begin(flat, weight, (0, 0))
    return shared, layout


def test_variables_are_read_under_their_names_and_shapes() -> None:
    shared, layout = made(w=[[1, 2, 3], [4, 5, 6]], b=7)
    assert shared["w"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert shared["b"].shape == ()
    assert float(shared["b"]) == 7
    assert list(shared) == ["w", "b"]
    assert "w" in shared
    assert "x" not in shared
    assert layout.not_finite(shared._buffer) is None


@pytest.mark.parametrize(
    ("at", "wanted"),
    [
        (..., [2, 2, 2]),
        (1, [0, 2, 0]),
        (np.int64(1), [0, 2, 0]),
        (slice(1, 3), [0, 2, 2]),
        ([0, 2], [2, 0, 2]),
        (np.array([0, 0, 2]), [4, 0, 2]),
        (np.array([True, False, True]), [2, 0, 2]),
        ((1,), [0, 2, 0]),
        (([1, 1],), [0, 4, 0]),
    ],
)
def test_additions_are_made_where_an_index_says_and_as_often(at: Any, wanted: list[float]) -> None:
    shared, _ = made(w=np.zeros(3))
    shared.add("w", 2.0, at)
    assert shared["w"].tolist() == wanted
    shared, _ = made(w=np.ones(3))
    shared.multiply("w", 2.0, at)
    assert shared["w"].tolist() == [2.0 ** (value / 2) for value in wanted]


def test_a_late_addition_waits_divided_by_the_weight() -> None:
    shared, _ = made(4, w=np.zeros(3))
    place = np.array([0, 1])
    shared.delayed_add("w", -4.0, place)
    place[0] = 2
    shared.delayed_add("w", [4.0, 8.0, 12.0])
    assert shared["w"].tolist() == [0, 0, 0]
    first, second = shared.postponed
    assert (first.name, first.value, first.at.tolist()) == ("w", -1.0, [0, 1])
    assert second.value.tolist() == [1, 2, 3]
    shared._add_late(shared.postponed)
    assert shared["w"].tolist() == [0, 1, 3]


def test_what_is_merged_counts_late_additions_for_every_worker() -> None:
    """The mean over 3 workers of what each contributes is Gamma v + mean D + sum T."""
    shared, _ = made(3, v=10.0)
    shared._add_late([Late("v", 1.0, ...)])
    shared.multiply("v", 0.5)
    shared.add("v", 6.0)
    assert shared["v"] == 0.5 * (10 + 1) + 6
    assert shared._contribution()[0] == 0.5 * 10 + 6 + 3 * 0.5
    shared._begin(np.full(8, 10.0), 3, (0, 1))
    assert shared._contribution()[0] == 10, "a round begins without them"


def test_of_one_worker_what_is_merged_is_what_it_has() -> None:
    shared, _ = made(1, v=0.1)
    shared._add_late([Late("v", 0.2, ...)])
    shared.multiply("v", 0.3)
    assert shared._contribution()[0] == (0.1 + 0.2) * 0.3


def test_random_numbers_are_by_the_key_alone() -> None:
    shared, _ = made(v=0.0)
    first = shared.random.random(3)
    assert (first == np.random.default_rng((0, 0)).random(3)).all()
    shared._begin(np.zeros(8), 1, (0, 1))
    assert (shared.random.random(3) == np.random.default_rng((0, 1)).random(3)).all()


def test_values_can_be_read_alone() -> None:
    _, layout = made(w=np.zeros(3))
    flat = np.ones(8)
    values = Values(layout, flat)
    assert values["w"].tolist() == [1, 1, 1]
    assert not hasattr(values, "add")
    with pytest.raises(TypeError, match="'w' can be changed by add, delayed_add and multiply, and cannot be set"):
        values["w"] = np.zeros(3)
    with pytest.raises(ValueError, match="read-only"):
        values["w"][0] = 1
    with pytest.raises(ValueError, match="'x' is not declared: shared has 'w'"):
        values["x"]


def test_the_first_variable_that_is_not_finite_is_named() -> None:
    shared, layout = made(a=np.zeros(3), b=0.0, c=1.0)
    shared.add("c", np.inf)
    shared.add("b", np.nan)
    assert layout.not_finite(shared._buffer) == "b"


@pytest.mark.parametrize(
    ("name", "value", "at", "words"),
    [
        ("x", 1.0, ..., "'x' is not declared: shared has 'w'"),
        ("w", [1.0, 2.0], ..., r"of a value of shape \(2,\) does not fit 'w' of shape \(3,\): "),
        ("w", 1.0, 3, r"of a value of shape \(\) does not fit 'w' of shape \(3,\), at 3: index 3 is out"),
        ("w", 1j, ..., "does not fit 'w'"),
        ("w", [1j, 1j, 1j], ..., "does not fit 'w'"),
        ("w", "a", 0, "does not fit 'w'"),
    ],
)
@pytest.mark.parametrize("operation", ["add", "delayed_add", "multiply"])
def test_what_does_not_fit_is_refused(operation: str, name: str, value: Any, at: Any, words: str) -> None:
    shared, _ = made(w=np.zeros(3))
    with pytest.raises(ValueError, match=words):
        getattr(shared, operation)(name, value, at)
    assert shared["w"].tolist() == [0, 0, 0]
    assert shared.postponed == []
